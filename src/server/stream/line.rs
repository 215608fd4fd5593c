//! What comes in below a WebSocket, byte by byte: frames of one byte, pings and half a message are no element that a stream
//! could count, and cost as much as what they carry.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use super::rate::Rate;

/// Shared by the socket, which reports what it reads, and by the stream, which knows who is logged in.
#[derive(Clone, Debug, Default)]
pub struct Line(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// `None`: it is not a stream, or not yet.
    rate: Option<Rate>,
    /// How many bytes may still come until somebody is logged in.
    allowance: Option<usize>,
}

impl Line {
    /// A stream begins: it may send so many bytes a second (0: any number), and so many until somebody is logged in.
    pub fn open(&self, bytes_per_second: u32, allowance: usize) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.rate = Some(Rate::new(bytes_per_second));
        state.allowance = Some(allowance);
    }

    pub(super) fn authenticated(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.allowance = None;
    }

    /// So many bytes were read: until when to read no more, if at all. An error ends the connection.
    pub fn read(&self, bytes: usize) -> io::Result<Option<Instant>> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(allowance) = &mut state.allowance {
            let left = allowance.checked_sub(bytes);
            *allowance = left.ok_or_else(|| io::Error::other("too much before the login"))?;
        }
        Ok(state.rate.as_mut().and_then(|rate| rate.count(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_no_stream_is_not_counted_and_a_login_lifts_the_bound() {
        let line = Line::default();
        assert_eq!(line.read(1 << 30).unwrap(), None);
        line.open(1_000, 10_000);
        assert_eq!(line.read(2_000).unwrap(), None);
        let until = line.read(1_000).unwrap().unwrap();
        assert_eq!(until - Instant::now(), Duration::from_secs(1));
        assert!(line.read(7_001).is_err());
        line.authenticated();
        assert!(line.read(70_000).unwrap().is_some());
    }
}
