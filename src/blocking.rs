//! File work inside a task that others share a thread with: they go on meanwhile on another one.
//!
//! It is for what a slow disk can hold up. It does not make the work itself cancellable, and it costs a
//! change of threads: not for each event.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Does the work here, and lets another thread run the other tasks for so long. Outside of a runtime of several
/// threads there is nobody to make room for.
pub fn in_place<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use tokio::task::JoinSet;

    use super::*;

    #[test]
    fn other_tasks_go_on_beside_file_work_although_there_is_one_worker() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let (tell, told) = mpsc::channel();
        let heard = runtime.block_on(async {
            let (mut waiting, mut beside) = (JoinSet::new(), JoinSet::new());
            waiting.spawn(async move { in_place(|| told.recv_timeout(Duration::from_secs(10))) });
            beside.spawn(async move { tell.send(()) });
            waiting.join_next().await.unwrap().unwrap()
        });
        assert_eq!(heard, Ok(()));
    }

    #[tokio::test]
    async fn where_one_thread_runs_everything_the_work_is_done_as_it_is() {
        assert_eq!(in_place(|| 7), 7);
    }
}
