//! Why a journal on Kafka could not be opened, and what librdkafka's errors mean here.

use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::options::is_secret;
use crate::ReadError;

/// Why a journal on Kafka could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A setting cannot be as it is.
    #[error("kafka setting `{name}`: {message}")]
    Option {
        /// Its name.
        name: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// A property of librdkafka is unknown to it, has a wrong value, or would break a promise.
    #[error("kafka property `{name}`: {message}")]
    Property {
        /// Its name.
        name: String,
        /// What is wrong with it; never its value where that may be a secret.
        message: String,
    },
    /// A client could not be made of these settings.
    #[error("kafka client: {message}")]
    Client {
        /// What librdkafka said.
        message: String,
    },
    /// No broker answered.
    #[error("no kafka broker of `{brokers}` answered within {waited:?}: {message}")]
    Unreachable {
        /// The brokers that were asked.
        brokers: String,
        /// For how long.
        waited: Duration,
        /// What the last attempt said.
        message: String,
    },
    /// Topics that cannot be used as they are. Nothing about them was changed.
    #[error("{}", problems(.0))]
    Topics(Vec<TopicProblem>),
}

/// Why a topic cannot be used as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicProblem {
    /// Its name.
    pub topic: String,
    /// The setting: a name of Kafka's.
    pub setting: String,
    /// What the topic has.
    pub found: String,
    /// What was asked for.
    pub wanted: String,
    /// Who can mend it, and how.
    pub remedy: String,
}

fn problems(problems: &[TopicProblem]) -> String {
    let lines = problems.iter().map(|problem| {
        let TopicProblem {
            topic,
            setting,
            found,
            wanted,
            remedy,
        } = problem;
        format!("kafka topic `{topic}`: `{setting}` is {found}, wanted {wanted}; {remedy}")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The error of making a client, without values that may be secrets.
pub(super) fn client_error(error: KafkaError) -> OpenError {
    match error {
        KafkaError::ClientConfig(_, message, name, _) => OpenError::Property {
            message: if is_secret(&name) {
                "its value is not allowed".to_owned()
            } else {
                message
            },
            name,
        },
        KafkaError::ClientCreation(message) => OpenError::Client { message },
        other => OpenError::Client {
            message: other.to_string(),
        },
    }
}

/// The error of a question to the brokers.
pub(super) fn read_error(error: &KafkaError) -> ReadError {
    let message = match error.rdkafka_error_code() {
        Some(code) => describe(code),
        None => error.to_string(),
    };
    ReadError::Unavailable { message }
}

/// What a code of librdkafka means, for a person.
pub(super) fn describe(code: RDKafkaErrorCode) -> String {
    match code {
        RDKafkaErrorCode::MessageTimedOut => "no broker confirmed the record in time".to_owned(),
        other => other.to_string(),
    }
}
