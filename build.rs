//! Asks the linker for relative relocations in their short form: a megabyte less of the program, and of
//! its memory. Needs glibc 2.36, as Debian 12 has it; a linker that does not know the option says so and
//! goes on.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "this is how a build script is told, and tells"
)]

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // The linker's front reads it, of which Cargo knows nothing.
    println!("cargo:rerun-if-changed=.cargo/order.txt");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    if is("CARGO_CFG_TARGET_OS", "linux")
        && is("CARGO_CFG_TARGET_ENV", "gnu")
        && is("PROFILE", "release")
    {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
