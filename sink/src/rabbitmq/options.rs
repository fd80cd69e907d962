//! Settings of a RabbitMQ destination. No error repeats any part of the URL.

use std::fmt;

use event::StreamDeclaration;
use lapin::uri::{AMQPScheme, AMQPUri};

use crate::database::MappingError;

/// Longest name in AMQP, in bytes: its length is one byte.
pub(super) const NAME_BYTES_MAX: usize = 255;

/// How often either side shows that it lives, unless the URL says another time.
const HEARTBEAT_SECONDS: u16 = 10;

/// What stands for the stream's name in `queue` and `routing_key`.
const STREAM: &str = "{stream}";

/// Why a URL does not say how to reach a broker. Holds no part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RabbitmqUrlError {
    /// It cannot be read.
    #[error(
        "not a URL of RabbitMQ: expected `amqp://user:password@host:port/vhost`, with everything but letters, digits \
         and `-._~` percent-encoded; the virtual host `/` is `%2F` or left out"
    )]
    Malformed,
    /// TLS, which this client is built without.
    #[error(
        "`amqps://` is not supported: let a TLS proxy beside the process speak to the broker, and write `amqp://`"
    )]
    Tls,
}

/// Where messages go.
#[derive(Clone)]
pub struct RabbitmqOptions {
    /// `amqp://user:password@host:port/vhost`. It may carry a password, so it is never shown.
    pub url: String,
    /// The consumer group in which sink processes share the partitions; names the queues of positions.
    pub group: String,
    /// The exchange, which must exist; the default exchange (a queue by its name) when empty.
    pub exchange: String,
    /// The routing key; `{stream}` stands for the stream's name. Default: the queue's name, or the stream's.
    pub routing_key: Option<String>,
    /// A queue that is declared durable when it is missing, and bound to the exchange by the routing key. `{stream}`
    /// stands for the stream's name. Default: with the default exchange the routing key, else none.
    pub queue: Option<String>,
    /// The field whose value is the message id; the event's place in the journal when absent.
    pub message_id: Option<String>,
}

impl fmt::Debug for RabbitmqOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitmqOptions")
            .field("url", &"(secret)")
            .field("group", &self.group)
            .field("exchange", &self.exchange)
            .field("routing_key", &self.routing_key)
            .field("queue", &self.queue)
            .field("message_id", &self.message_id)
            .finish()
    }
}

/// Where the messages of one stream go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) exchange: String,
    pub(super) routing_key: String,
    /// What is declared.
    pub(super) queue: Option<String>,
}

/// Checked options.
pub(super) struct Settings {
    pub(super) uri: AMQPUri,
    options: RabbitmqOptions,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("host", &self.uri.authority.host)
            .field("port", &self.uri.authority.port)
            .field("vhost", &self.uri.vhost)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// Reads the URL.
    pub(super) fn parse(options: &RabbitmqOptions) -> Result<Self, RabbitmqUrlError> {
        let malformed = |_| RabbitmqUrlError::Malformed;
        let url = url::Url::parse(&options.url).map_err(|_| RabbitmqUrlError::Malformed)?;
        let mut uri: AMQPUri = options.url.parse().map_err(malformed)?;
        if uri.scheme == AMQPScheme::AMQPS {
            return Err(RabbitmqUrlError::Tls);
        }
        match url.host() {
            Some(url::Host::Ipv6(address)) => uri.authority.host = address.to_string(),
            Some(_) => {}
            None => return Err(RabbitmqUrlError::Malformed),
        }
        // AMQP would take it for a virtual host without a name, which no broker has.
        if uri.vhost.is_empty() {
            "/".clone_into(&mut uri.vhost);
        }
        // So that a process that is paused or cut off gives its partitions back within half a minute.
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        Ok(Self {
            uri,
            options: options.clone(),
        })
    }

    /// Where the messages of a stream go.
    pub(super) fn route(&self, stream: &StreamDeclaration) -> Route {
        let of_stream = |text: &String| text.replace(STREAM, stream.name.as_str());
        let exchange = self.options.exchange.clone();
        let queue = self.options.queue.as_ref().map(of_stream);
        let key = self.options.routing_key.as_ref().map(of_stream);
        let routing_key = key
            .or_else(|| queue.clone())
            .unwrap_or_else(|| stream.name.as_str().to_owned());
        // The default exchange knows queues by their names only.
        let queue = queue.or_else(|| exchange.is_empty().then(|| routing_key.clone()));
        Route {
            exchange,
            routing_key,
            queue,
        }
    }

    /// The field whose value is the message id.
    pub(super) fn message_id(&self) -> Option<&str> {
        self.options.message_id.as_deref()
    }

    /// The group, which names the queues of positions.
    pub(super) fn group(&self) -> &str {
        &self.options.group
    }

    /// Whether messages of a stream can go there.
    pub(super) fn check(&self, stream: &StreamDeclaration) -> Result<(), MappingError> {
        let unsupported = |reason: String| MappingError::Unsupported {
            table: stream.name.as_str().to_owned(),
            reason,
        };
        if let Some(field) = self.message_id()
            && stream.field(field).is_none()
        {
            return Err(MappingError::NoField {
                stream: stream.name.clone(),
                field: field.to_owned(),
            });
        }
        let route = self.route(stream);
        let position = super::position::longest_name(self.group(), stream);
        let queue = route.queue.as_ref();
        let names = [
            Some(&route.exchange),
            Some(&route.routing_key),
            queue,
            Some(&position),
        ];
        if let Some(long) = names
            .into_iter()
            .flatten()
            .find(|name| name.len() > NAME_BYTES_MAX)
        {
            return Err(unsupported(format!(
                "a name of {} bytes exceeds AMQP's limit of {NAME_BYTES_MAX}",
                long.len()
            )));
        }
        if let Some(queue) = queue
            && route.exchange.is_empty()
            && *queue != route.routing_key
        {
            return Err(unsupported(format!(
                "the default exchange brings `{}` to the queue of that name and not to `{queue}`: name an `exchange`",
                route.routing_key
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str) -> RabbitmqOptions {
        RabbitmqOptions {
            url: url.to_owned(),
            group: "tidemill.out".to_owned(),
            exchange: String::new(),
            routing_key: None,
            queue: None,
            message_id: None,
        }
    }

    #[test]
    fn a_url_says_where_the_broker_is_and_no_part_of_it_is_shown() {
        let place = |url: &str| {
            let uri = Settings::parse(&options(url)).expect("a URL").uri;
            (uri.authority.host, uri.authority.port, uri.vhost)
        };
        let local = |vhost: &str| ("127.0.0.1".to_owned(), 5672, vhost.to_owned());
        for url in [
            "amqp://127.0.0.1",
            "amqp://127.0.0.1/",
            "amqp://127.0.0.1//",
            "amqp://127.0.0.1/%2f",
        ] {
            assert_eq!(place(url), local("/"), "{url}");
        }
        assert_eq!(place("amqp://a:b@127.0.0.1:5672/shop"), local("shop"));
        assert_eq!(place("amqp://[::1]:7").0, "::1");
        let refused = |url: &str| Settings::parse(&options(url)).expect_err("no URL");
        assert_eq!(refused("amqps://me:hunter2@broker"), RabbitmqUrlError::Tls);
        for url in [
            "hunter2",
            "http://me:hunter2@broker",
            "amqp:///hunter2",
            "amqp://me@broker:hunter2",
        ] {
            let error = refused(url);
            assert_eq!(error, RabbitmqUrlError::Malformed, "{url}");
        }
        let shown = format!(
            "{:?}",
            Settings::parse(&options("amqp://me:hunter2@broker")).expect("a URL")
        );
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_stream_has_its_queue_key_and_exchange() {
        let stream = &StreamDeclaration::starters()[0];
        let route = |change: fn(&mut RabbitmqOptions)| {
            let mut options = options("amqp://broker");
            change(&mut options);
            let settings = Settings::parse(&options).expect("a URL");
            (settings.check(stream).is_ok(), settings.route(stream))
        };
        let expected = |exchange: &str, routing_key: &str, queue: Option<&str>| Route {
            exchange: exchange.to_owned(),
            routing_key: routing_key.to_owned(),
            queue: queue.map(str::to_owned),
        };
        assert_eq!(route(|_| {}), (true, expected("", "running", Some("running"))));
        let named = route(|options| options.queue = Some("q.{stream}".to_owned()));
        assert_eq!(named, (true, expected("", "q.running", Some("q.running"))));
        let exchange = route(|options| options.exchange = "amq.topic".to_owned());
        assert_eq!(exchange, (true, expected("amq.topic", "running", None)));
        assert!(!route(|options| options.message_id = Some("nothing".to_owned())).0);
        assert!(!route(|options| options.queue = Some("q".repeat(256))).0);
        let elsewhere = route(|options| {
            options.queue = Some("a".to_owned());
            options.routing_key = Some("b".to_owned());
        });
        assert!(!elsewhere.0, "nothing would ever come to that queue");
    }
}
