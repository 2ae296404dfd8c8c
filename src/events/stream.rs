//! Events as a stream on tokio's reactor.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_core::stream::FusedStream;
use tokio::io::unix::AsyncFd;

use super::event::Event;
use super::handle::Events;
use crate::error::{Context as _, Result};
use crate::sys::reactor::{self, Set};

/// The events of a pod as a stream (feature `tokio`), see [`Events::into_stream`].
///
/// It ends after [`Event::PodRemoved`]. An error does not end it: the next item looks again.
#[derive(Debug)]
pub struct EventStream {
    events: Events,
    readiness: AsyncFd<Set>,
}

impl Events {
    /// Makes it a stream (feature `tokio`). No thread waits for it: tokio's reactor waits for the descriptor.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O, as [`AsyncFd`] does.
    ///
    /// # Errors
    /// When the descriptor cannot be registered with the reactor.
    pub fn into_stream(self) -> Result<EventStream> {
        let readiness = reactor::readable(self.epoll()).step("register with tokio", "events")?;
        Ok(EventStream { events: self, readiness })
    }
}

impl EventStream {
    /// The subscription.
    pub fn events(&self) -> &Events {
        &self.events
    }
}

impl Stream for EventStream {
    type Item = Result<Event>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            match this.events.next_event() {
                Ok(None) if this.events.is_over() => return Poll::Ready(None),
                Ok(None) => {}
                result => return Poll::Ready(result.transpose()),
            }
            // Readiness is of the moment before the look: what came since then is told again by the reactor.
            let mut guard = match ready!(this.readiness.poll_read_ready(cx)) {
                Ok(guard) => guard,
                Err(failed) => {
                    let failed: std::io::Result<Event> = Err(failed);
                    return Poll::Ready(Some(failed.step("wait for", "events")));
                }
            };
            guard.clear_ready();
        }
    }
}

impl FusedStream for EventStream {
    fn is_terminated(&self) -> bool {
        self.events.is_over()
    }
}
