//! The process: everything it does is in the library, by the name of the command.

/// See `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    onboarding_bridge::cli::main()
}
