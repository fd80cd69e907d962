//! The one binary. Everything that it is made of is in the library, so that tests, benches and the demo use it.

use std::process::ExitCode;

/// Batches are allocated on one thread and freed on another all the time, which mimalloc does well.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    server::cli::main()
}
