//! Makes topics, and reads what they are set to.

use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, NewTopic, OwnedResourceSpecifier, ResourceSpecifier, TopicReplication,
};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::client::{Listener, create};
use super::describe::Found;
use super::error::describe;
use super::options::KafkaOptions;
use super::topics::{Wanted, milliseconds};
use super::{OpenError, TopicProblem};

/// Makes topics and reads their settings; lives while a journal is opened.
pub(super) struct Administrator {
    client: AdminClient<Listener>,
    timeout: Duration,
}

impl Administrator {
    pub(super) fn new(options: &KafkaOptions, listener: Listener) -> Result<Self, OpenError> {
        Ok(Self {
            client: create(&options.administrating(), listener)?,
            timeout: options.timeout,
        })
    }

    fn admin_options(&self) -> AdminOptions {
        AdminOptions::new()
            .request_timeout(Some(self.timeout))
            .operation_timeout(Some(self.timeout))
    }

    /// Makes missing topics; one that somebody else has just made is as good.
    pub(super) async fn create(
        &self,
        missing: &[&Wanted],
        options: &KafkaOptions,
    ) -> Result<Vec<TopicProblem>, OpenError> {
        let bytes = options.record_bytes_max.to_string();
        let retention = options.retention.map(|span| milliseconds(span).to_string());
        let new: Vec<_> = missing
            .iter()
            .map(|wanted| {
                let replication = TopicReplication::Fixed(options.replication.map_or(-1, i32::from));
                let partitions = i32::try_from(wanted.partitions(options)).unwrap_or(i32::MAX);
                // -1 leaves it to the broker.
                let partitions = if partitions == 0 { -1 } else { partitions };
                let topic = NewTopic::new(&wanted.topic, partitions, replication)
                    .set("cleanup.policy", "delete")
                    .set("max.message.bytes", &bytes);
                match &retention {
                    Some(retention) => topic.set("retention.ms", retention),
                    None => topic,
                }
            })
            .collect();
        let created = self.client.create_topics(&new, &self.admin_options()).await;
        let created = created.map_err(|error| unreachable(options, &error))?;
        let mut problems = Vec::new();
        for outcome in created {
            match outcome {
                Ok(topic) => tracing::info!(topic, "made a kafka topic"),
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => {
                    let wanted = missing.iter().find(|wanted| wanted.topic == topic);
                    problems.extend(wanted.map(|wanted| wanted.missing(Some(code))));
                }
            }
        }
        Ok(problems)
    }

    /// Compares the settings of topics with what was asked for.
    pub(super) async fn check_settings(
        &self,
        topics: &[(&Wanted, &Found)],
        options: &KafkaOptions,
    ) -> Result<Vec<TopicProblem>, OpenError> {
        let resources: Vec<_> = topics
            .iter()
            .map(|(wanted, _)| ResourceSpecifier::Topic(&wanted.topic))
            .collect();
        let described = self
            .client
            .describe_configs(&resources, &self.admin_options())
            .await;
        let described = described.map_err(|error| unreachable(options, &error))?;
        let mut problems = Vec::new();
        for described in described {
            match described {
                Ok(resource) => {
                    let OwnedResourceSpecifier::Topic(name) = &resource.specifier else {
                        continue;
                    };
                    let Some((wanted, found)) = topics.iter().find(|(wanted, _)| wanted.topic == *name)
                    else {
                        continue;
                    };
                    let settings = resource.entries.into_iter();
                    let settings = settings
                        .filter_map(|entry| Some((entry.name, entry.value?)))
                        .collect();
                    problems.extend(wanted.check_settings(&settings, found, options));
                }
                Err(code) => {
                    let code = describe(code);
                    tracing::warn!(
                        code,
                        "the settings of a topic cannot be read, so they are not checked"
                    );
                }
            }
        }
        Ok(problems)
    }
}

fn unreachable(options: &KafkaOptions, error: &KafkaError) -> OpenError {
    OpenError::Unreachable {
        brokers: options.brokers.clone(),
        waited: options.timeout,
        message: error.to_string(),
    }
}
