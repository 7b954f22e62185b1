//! Counts the bytes of a list and stops at its bounds, so that no body can fill the memory or never end.
//!
//! The whole list has one bound, each entry another, each value that is kept a third. It sits between
//! the body and the parser, because a parser that has begun with a text reads it to its end.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

/// Bytes that are asked of the body at a time.
const BUFFER: usize = 64 * 1024;

/// How far a list was read, and how far it may be.
#[derive(Debug)]
pub(super) struct Meter {
    passed: Cell<u64>,
    until: Cell<u64>,
    most: u64,
}

impl Meter {
    pub(super) fn new(most: u64) -> Rc<Self> {
        Rc::new(Self {
            passed: Cell::new(0),
            until: Cell::new(most),
            most,
        })
    }

    /// Bytes so far.
    pub(super) fn passed(&self) -> u64 {
        self.passed.get()
    }

    /// What is read by `read` may have so many bytes, and no more than what it is a part of.
    pub(super) fn within<T>(&self, bytes: u64, read: impl FnOnce() -> T) -> T {
        let around = self.until.get();
        self.until
            .set(around.min(self.passed.get().saturating_add(bytes)));
        let done = read();
        // Where it went too far this stays, so that whoever asks why knows the bound.
        if !self.is_spent() {
            self.until.set(around);
        }
        done
    }

    /// Which bound was met, if one was: the whole list's, or that of a part of it.
    pub(super) fn met(&self) -> Option<Bound> {
        if !self.is_spent() {
            return None;
        }
        Some(match self.until.get() == self.most {
            true => Bound::List,
            false => Bound::Entry,
        })
    }

    fn is_spent(&self) -> bool {
        self.passed.get() > self.until.get()
    }
}

/// A bound of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// `reconcile.max_bytes`.
    List,
    /// That of an entry, or of a value in it.
    Entry,
}

/// A body of which every byte is counted.
#[derive(Debug)]
pub(super) struct Metered<R> {
    body: R,
    meter: Rc<Meter>,
    buffer: Box<[u8]>,
    at: usize,
    end: usize,
}

impl<R: Read> Metered<R> {
    pub(super) fn new(body: R, meter: Rc<Meter>) -> Self {
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Self {
            body,
            meter,
            buffer,
            at: 0,
            end: 0,
        }
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at == self.end {
            self.end = self.body.read(&mut self.buffer)?;
            self.at = 0;
        }
        let count = into.len().min(self.end - self.at);
        if count == 0 {
            return Ok(0);
        }
        let passed = self.meter.passed.get() + count as u64;
        self.meter.passed.set(passed);
        if self.meter.is_spent() {
            return Err(io::Error::other("beyond a bound"));
        }
        into[..count].copy_from_slice(&self.buffer[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(meter: &Rc<Meter>, body: &[u8]) -> io::Result<usize> {
        let mut metered = Metered::new(body, Rc::clone(meter));
        let mut byte = [0];
        let mut count = 0;
        while metered.read(&mut byte)? > 0 {
            assert_eq!(byte[0], body[count]);
            count += 1;
        }
        Ok(count)
    }

    #[test]
    fn the_last_byte_that_is_allowed_is_read_and_the_next_is_not() {
        let meter = Meter::new(5);
        assert_eq!(read(&meter, b"12345").unwrap(), 5);
        assert_eq!(meter.met(), None);
        assert!(read(&meter, b"6").is_err());
        assert_eq!(meter.met(), Some(Bound::List));
    }

    #[test]
    fn a_part_has_its_own_bound_and_what_follows_it_has_not() {
        let meter = Meter::new(100);
        assert_eq!(meter.within(3, || read(&meter, b"123")).unwrap(), 3);
        assert_eq!(read(&meter, b"45678").unwrap(), 5);
        assert!(meter.within(3, || read(&meter, b"1234")).is_err());
        assert_eq!(meter.met(), Some(Bound::Entry));
    }
}
