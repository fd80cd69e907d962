//! The one binary. Everything that it is made of is in the library, so that tests, benches and the demo use it.

use std::process::ExitCode;

/// Batches are allocated on one thread and freed on another all the time, which mimalloc does well.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if let Some(feature) = server::processor::lacks() {
        eprintln!(
            "error: this processor has no {feature}, which this program was built for; build one for it with \
             RUSTFLAGS=\"-C target-cpu=x86-64\""
        );
        return ExitCode::FAILURE;
    }
    server::cli::main()
}
