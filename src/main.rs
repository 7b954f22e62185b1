//! The process: everything it does is in the library, by the name of the command.

fn main() -> std::process::ExitCode {
    onboarding_bridge::cli::main()
}
