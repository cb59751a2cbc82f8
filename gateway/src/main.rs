use std::process::ExitCode;

fn main() -> ExitCode {
    countersign_gateway::cli::main()
}
