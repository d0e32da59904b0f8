//! Whose turn it is: the runtime counts nothing, so whoever has much to do gives way by itself.

use std::future::poll_fn;
use std::task::Poll;

/// Lets other tasks run once.
pub(crate) async fn give_way() {
    let mut given = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut given, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
