//! The bytes of a user's state in the journal, version 1, little-endian:
//!
//! ```text
//!   version u8 │ position u64 │ removed u8 │ mask u8 │ 8 bytes a digest in the mask
//!   │ status: 0xffff for none, else length u16 and bytes │ count u8 │ 16 bytes a recent id
//! ```
//!
//! Pure. It never guesses: bytes that it does not understand are no state.

use crate::event::EventId;
use crate::state::UserState;

const VERSION: u8 = 1;
const NO_STATUS: u16 = u16::MAX;

/// Longest status that is remembered, in bytes; a longer one is cut, and only `previous_status`
/// shows it.
const STATUS_MAX: usize = 256;

/// The state as bytes.
pub fn encode(state: &UserState) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(160);
    bytes.push(VERSION);
    bytes.extend(state.position.to_le_bytes());
    bytes.push(u8::from(state.removed));
    let present = state
        .digests
        .iter()
        .enumerate()
        .filter(|(_, digest)| digest.is_some());
    bytes.push(present.fold(0, |mask, (index, _)| mask | (1 << index)));
    for digest in state.digests.iter().flatten() {
        bytes.extend(digest);
    }
    match &state.status {
        None => bytes.extend(NO_STATUS.to_le_bytes()),
        Some(status) => {
            let end = status.floor_char_boundary(STATUS_MAX);
            let status = status.as_bytes().get(..end).unwrap_or_default();
            let length = u16::try_from(status.len()).unwrap_or_default();
            bytes.extend(length.to_le_bytes());
            bytes.extend(status);
        }
    }
    bytes.push(u8::try_from(state.recent.len()).unwrap_or(u8::MAX));
    for id in &state.recent {
        bytes.extend(id.0);
    }
    bytes
}

/// The inverse; `None` for bytes of another version, cut short, or with a status longer than
/// [`encode`] writes.
pub fn decode(bytes: &[u8]) -> Option<UserState> {
    let mut rest = bytes;
    if take::<1>(&mut rest)? != [VERSION] {
        return None;
    }
    let mut state = UserState {
        position: u64::from_le_bytes(take(&mut rest)?),
        removed: take::<1>(&mut rest)? == [1],
        ..UserState::default()
    };
    let [mask] = take(&mut rest)?;
    for (index, place) in state.digests.iter_mut().enumerate() {
        if mask & (1 << index) != 0 {
            *place = Some(take(&mut rest)?);
        }
    }
    let length = u16::from_le_bytes(take(&mut rest)?);
    if length != NO_STATUS {
        if usize::from(length) > STATUS_MAX {
            return None;
        }
        let (status, after) = rest.split_at_checked(length.into())?;
        state.status = Some(String::from_utf8(status.to_vec()).ok()?);
        rest = after;
    }
    let [count] = take(&mut rest)?;
    for _ in 0..count {
        state.recent.push(EventId(take(&mut rest)?));
    }
    Some(state)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_status_is_cut_when_written_and_never_read_longer_than_that() {
        let state = UserState {
            status: Some("s".repeat(STATUS_MAX + 1)),
            ..UserState::default()
        };
        let mut bytes = encode(&state);
        let read = decode(&bytes).unwrap();
        assert_eq!(read.status.as_deref(), Some(&*"s".repeat(STATUS_MAX)));
        let length = bytes.windows(2).position(|two| two == [0, 1]).unwrap();
        bytes.splice(length..length + 3, [1, 1, b's', b's']);
        assert_eq!(decode(&bytes), None);
    }

    proptest! {
        #[test]
        fn a_state_reads_back_and_a_cut_one_does_not(
            position: u64, removed: bool, digests: [Option<[u8; 8]>; 8],
            status in proptest::option::of("\\PC{0,60}"),
            recent in proptest::collection::vec(any::<[u8; 16]>(), 0..5), cut in 0_usize..200,
        ) {
            let recent = recent.into_iter().map(EventId).collect();
            let state = UserState { position, removed, digests, status, recent };
            let bytes = encode(&state);
            prop_assert_eq!(decode(&bytes), Some(state));
            if let Some(short) = bytes.get(..cut.min(bytes.len() - 1)) {
                prop_assert_eq!(decode(short), None);
            }
        }
    }
}
