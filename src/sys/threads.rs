//! The executor's threads.

/// Starts the executor's threads: as many as the configuration says. Call it before anything
/// that is asynchronous.
pub fn start(threads: usize) {
    let cores = || std::thread::available_parallelism().map_or(1, |cores| cores.get().min(4));
    let threads = if threads == 0 { cores() } else { threads };
    let config = async_global_executor::GlobalExecutorConfig::default()
        // It must be the name of a variable, and the default's would overrule the configuration.
        .with_env_var("SWITCHBOARD_THREADS_STAND_IN_THE_CONFIGURATION")
        .with_min_threads(threads)
        .with_max_threads(threads)
        .with_thread_name_fn(|| "executor".to_owned());
    async_global_executor::init_with_config(config);
}
