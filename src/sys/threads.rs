//! The executor's threads.

/// Starts `threads` executor threads; 0: one for each core, at most 4. Must be called before anything
/// asynchronous, which would start the default number, and before other threads: where the address space is
/// limited, malloc has a heap only for the first ones, and maps each block of the others alone.
pub fn start(threads: usize) {
    let threads = count(threads);
    let config = async_global_executor::GlobalExecutorConfig::default()
        // The executor requires the name of a variable. This one is never set, while the default's would
        // override the configuration.
        .with_env_var("SWITCHBOARD_THREADS_STAND_IN_THE_CONFIGURATION")
        .with_min_threads(threads)
        .with_max_threads(threads)
        .with_thread_name_fn(|| "executor".to_owned());
    async_global_executor::init_with_config(config);
    // Once a task has run, a thread of the executor has its heap.
    async_std::task::block_on(async_std::task::spawn(async {}));
}

/// Returns the number of executor threads for the setting `threads`.
pub(crate) fn count(threads: usize) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, |cores| cores.get().min(4));
    if threads == 0 { cores() } else { threads }
}
