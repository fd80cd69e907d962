//! Settings of Redis.

use std::fmt;

use event::StreamName;
use redis::Client;

/// Where Redis is, and where to publish.
#[derive(Clone, Default)]
pub struct RedisOptions {
    /// `redis://user:password@host:port/number`.
    pub url: String,
    /// Begins the names of the keys that hold positions: the consumer group's name.
    pub group: String,
    /// The one channel of all streams; none is taken from `channel_prefix` then.
    pub channel: Option<String>,
    /// A stream's channel is this and its name.
    pub channel_prefix: String,
}

/// The URL is shown nowhere.
impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions")
            .field("group", &self.group)
            .field("channel", &self.channel)
            .field("channel_prefix", &self.channel_prefix)
            .finish_non_exhaustive()
    }
}

impl RedisOptions {
    /// The channel of a stream.
    pub(super) fn channel_of(&self, stream: &StreamName) -> String {
        match &self.channel {
            Some(channel) => channel.clone(),
            None => format!("{}{stream}", self.channel_prefix),
        }
    }
}

/// A URL that is none of Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedisUrlError {
    /// It says `rediss://`.
    #[error("`rediss://` is not supported: Redis is spoken to without TLS here")]
    Tls,
    /// It is no URL of Redis.
    #[error("not a URL like `redis://user:password@host:6379/0`")]
    Invalid,
}

/// A client by a URL. Connects to nobody yet.
pub(super) fn client(url: &str) -> Result<Client, RedisUrlError> {
    if url.starts_with("rediss:") {
        return Err(RedisUrlError::Tls);
    }
    if !url.starts_with("redis://") {
        return Err(RedisUrlError::Invalid);
    }
    Client::open(url).map_err(|_| RedisUrlError::Invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_one_of_redis_without_tls() {
        for good in [
            "redis://127.0.0.1",
            "redis://:secret@localhost:6379/3",
            "redis://u:p@h",
        ] {
            assert!(client(good).is_ok(), "{good}");
        }
        assert_eq!(client("rediss://h").expect_err("TLS"), RedisUrlError::Tls);
        for wrong in ["", "http://h", "redis://", "redis://h/x", "127.0.0.1:6379"] {
            assert_eq!(
                client(wrong).expect_err("no URL"),
                RedisUrlError::Invalid,
                "{wrong}"
            );
        }
    }

    #[test]
    fn nothing_of_the_url_is_shown() {
        let options = RedisOptions {
            url: "redis://:secret@h".to_owned(),
            ..RedisOptions::default()
        };
        assert!(!format!("{options:?}").contains("secret"));
    }
}
