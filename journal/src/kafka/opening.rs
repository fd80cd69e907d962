//! Opening: finding the cluster, and finding or making the topics, in a bounded time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use event::{StreamDeclaration, StreamName};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;

use super::administrator::Administrator;
use super::client::{Consumer, Listener, Voice};
use super::describe::{Found, describe_topics};
use super::options::KafkaOptions;
use super::topic::Topic;
use super::topics::Wanted;
use super::{OpenError, error, health};

/// How often brokers are asked that do not answer, and topics are looked for that were just made.
const LOOK: Duration = Duration::from_millis(50);
/// For how long one attempt to reach a broker waits; between two of them the client says what is wrong.
const TURN: Duration = Duration::from_secs(1);

/// What each stream's topic should be; two streams cannot have one.
pub(super) fn wanted(
    options: &KafkaOptions,
    streams: &[Arc<StreamDeclaration>],
) -> Result<Vec<Wanted>, OpenError> {
    let wanted: Vec<_> = streams.iter().map(|stream| Wanted::of(stream, options)).collect();
    let mut names = BTreeSet::new();
    for wanted in &wanted {
        if !names.insert(&wanted.topic) {
            return Err(OpenError::Option {
                name: "topic",
                message: format!("`{}` is the topic of more than one stream", wanted.topic),
            });
        }
    }
    Ok(wanted)
}

/// Waits until a broker answers, and gives the cluster's id.
pub(super) async fn greet(
    asking: &Arc<Consumer>,
    options: &KafkaOptions,
    voice: &Arc<Voice>,
) -> Result<String, OpenError> {
    let (client, timeout) = (Arc::clone(asking), options.timeout);
    let answered = tokio::task::spawn_blocking(move || {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let asked = client.fetch_metadata(None, left.min(TURN));
            // What the client has to say about its connections is why nobody answers.
            health::serve(&client, Duration::ZERO);
            match asked {
                Ok(_) => return Ok(client.client().fetch_cluster_id(left)),
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => std::thread::sleep(LOOK),
            }
        }
    });
    let unreachable = |message: String| OpenError::Unreachable {
        brokers: options.brokers.clone(),
        waited: options.timeout,
        message,
    };
    match answered.await {
        Ok(Ok(Some(cluster))) => Ok(cluster),
        Ok(Ok(None)) => Err(unreachable("the cluster does not say its id".to_owned())),
        Ok(Err(error)) => Err(unreachable(voice.trouble().unwrap_or_else(|| error.to_string()))),
        Err(error) => Err(unreachable(error.to_string())),
    }
}

/// Finds, makes and checks the topics.
pub(super) async fn open_topics(
    asking: &Arc<Consumer>,
    options: &KafkaOptions,
    listener: &Listener,
    wanted: Vec<Wanted>,
) -> Result<BTreeMap<StreamName, Arc<Topic>>, OpenError> {
    if wanted.is_empty() {
        return Ok(BTreeMap::new());
    }
    let names: Vec<_> = wanted.iter().map(|wanted| wanted.topic.clone()).collect();
    let mut found = find(asking, options, &names).await?;
    let administrator = Administrator::new(options, listener.clone())?;
    let missing = |found: &BTreeMap<String, Found>| -> Vec<_> {
        let missing = wanted.iter().filter(|wanted| !found.contains_key(&wanted.topic));
        missing.collect()
    };
    if !missing(&found).is_empty() {
        let missed = missing(&found);
        let problems = if options.create_topics {
            administrator.create(&missed, options).await?
        } else {
            missed.iter().map(|wanted| wanted.missing(None)).collect()
        };
        if !problems.is_empty() {
            return Err(OpenError::Topics(problems));
        }
        let deadline = Instant::now() + options.timeout;
        while !missing(&found).is_empty() || found.values().any(|found| !found.led) {
            if Instant::now() >= deadline {
                let late = missing(&found);
                let why = Some(RDKafkaErrorCode::LeaderNotAvailable);
                return Err(OpenError::Topics(
                    late.iter().map(|wanted| wanted.missing(why)).collect(),
                ));
            }
            tokio::time::sleep(LOOK).await;
            found = find(asking, options, &names).await?;
        }
    }
    let there: Vec<_> = wanted
        .iter()
        .filter_map(|wanted| found.get(&wanted.topic).map(|found| (wanted, found)))
        .collect();
    let mut problems = administrator.check_settings(&there, options).await?;
    for (wanted, found) in &there {
        problems.extend(wanted.check_found(found, options));
    }
    tokio::task::spawn_blocking(move || drop(administrator));
    if !problems.is_empty() {
        return Err(OpenError::Topics(problems));
    }
    let topics = wanted.into_iter().filter_map(|wanted| {
        let found = found.get(&wanted.topic)?;
        Some((
            wanted.declaration.name.clone(),
            Arc::new(wanted.into_topic(found)),
        ))
    });
    Ok(topics.collect())
}

/// The topics of these names that are there.
async fn find(
    asking: &Arc<Consumer>,
    options: &KafkaOptions,
    names: &[String],
) -> Result<BTreeMap<String, Found>, OpenError> {
    let (client, names, timeout) = (Arc::clone(asking), names.to_vec(), options.timeout);
    let asked = tokio::task::spawn_blocking(move || {
        describe_topics(client.client(), &names, timeout, &AtomicBool::new(false))
    });
    let unreachable = |message: String| OpenError::Unreachable {
        brokers: options.brokers.clone(),
        waited: options.timeout,
        message,
    };
    let descriptions = match asked.await {
        Ok(Ok(descriptions)) => descriptions,
        Ok(Err(code)) => return Err(unreachable(error::describe(code))),
        Err(error) => return Err(unreachable(error.to_string())),
    };
    let mut found = BTreeMap::new();
    for description in descriptions {
        match description.found {
            Ok(topic) => {
                found.insert(description.name, topic);
            }
            Err(RDKafkaErrorCode::UnknownTopicOrPartition) => {}
            Err(code) => {
                let message = format!("topic `{}`: {}", description.name, error::describe(code));
                return Err(unreachable(message));
            }
        }
    }
    Ok(found)
}
