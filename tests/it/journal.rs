//! The journal in trouble: full, on a full disk, on a disk that fails, damaged, of an older version.
//! Real files, real small file systems, the real program where its end is what counts.

mod damage;
mod disk;
mod encrypted;
mod full;
mod upgrade;
