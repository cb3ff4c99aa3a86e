use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        #[cfg(feature = "sandbox")]
        Some("sandbox-az") => forerunner::cli::az::run(arguments),
        _ => ExitCode::from(2),
    }
}
