//! A bounded queue. A sender that finds it full waits, and the wait is counted.

use prometheus::IntCounter;
use tokio::sync::mpsc::{self, Receiver, Sender, error::TrySendError};

/// The sending end.
pub struct Queue<T> {
    places: Sender<T>,
    full: IntCounter,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self { places: self.places.clone(), full: self.full.clone() }
    }
}

impl<T> Queue<T> {
    /// A queue with `max` places, and its receiving end. `full` counts the sends that had to wait.
    pub fn new(max: usize, full: IntCounter) -> (Self, Receiver<T>) {
        let (places, taken) = mpsc::channel(max);
        (Self { places, full }, taken)
    }

    /// Sends an item, once there is a place; false if the receiving end is gone.
    pub async fn put(&self, item: T) -> bool {
        match self.places.try_send(item) {
            Ok(()) => true,
            Err(TrySendError::Closed(_)) => false,
            Err(TrySendError::Full(item)) => {
                self.full.inc();
                self.places.send(item).await.is_ok()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_makes_senders_wait_and_counts_them() {
        let full = IntCounter::new("full", "full").unwrap();
        let (queue, mut taken) = Queue::new(2, full.clone());
        assert!(queue.put(1).await && queue.put(2).await);
        assert_eq!(full.get(), 0);
        let waiting = queue.put(3);
        tokio::pin!(waiting);
        assert!(polled(waiting.as_mut()).await.is_none());
        assert_eq!(full.get(), 1);
        assert_eq!(taken.recv().await, Some(1));
        assert!(waiting.await);
        assert_eq!((taken.recv().await, taken.recv().await), (Some(2), Some(3)));
        drop(taken);
        assert!(!queue.put(4).await);
    }

    async fn polled<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        std::future::poll_fn(|cx| {
            std::task::Poll::Ready(match future.as_mut().poll(cx) {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
