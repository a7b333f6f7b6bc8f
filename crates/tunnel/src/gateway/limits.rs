//! How long the gateway waits for what.

use std::time::Duration;

/// Times of a gateway. The defaults are what it runs with; shorter ones are for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From a stream's beginning to the end of the inner handshake.
    pub handshake: Duration,
    /// From the moment a request may come to the end of its head. An idle connection is closed after
    /// as long; the connector of the server keeps none for more than a few seconds.
    pub head: Duration,
    /// Silence within a request's body.
    pub body_silence: Duration,
    /// From a whole head to the head of the server's answer.
    pub answer: Duration,
    /// Silence within an answer: event streams may have nothing to say.
    pub answer_silence: Duration,
    /// How long a kept connection is still listened to when the gateway stops: closed at once, it
    /// would take a request along that is already on its way. The next answer says that it is the
    /// last; the connector of the server keeps no idle connection for so long.
    pub last_word: Duration,
    /// Between two looks at the files.
    pub look: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(30),
            body_silence: Duration::from_secs(30),
            answer: Duration::from_secs(120),
            answer_silence: Duration::from_secs(300),
            last_word: Duration::from_secs(7),
            look: Duration::from_secs(5),
        }
    }
}
