//! TLS and SASL, by librdkafka's own properties, in the build as it is.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use event::Offset;
use journal::Journal;
use journal::contract::{batch, read_all};
use journal::kafka::{KafkaJournal, OpenError};

use super::broker::Broker;
use super::{Topics, name, shared, stream};

const SETTINGS: &str = "listeners=SECURE://{ADDRESS},CONTROLLER://{CONTROLLER}\n\
    listener.security.protocol.map=SECURE:SASL_SSL,CONTROLLER:PLAINTEXT\n\
    inter.broker.listener.name=SECURE\n\
    sasl.mechanism.inter.broker.protocol=PLAIN\n\
    sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512\n\
    listener.name.secure.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
    username=\"broker\" password=\"between\" user_broker=\"between\" user_plain=\"plain-secret\";\n\
    listener.name.secure.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;\n\
    listener.name.secure.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;\n\
    ssl.keystore.location=KEYS/broker.p12\n\
    ssl.keystore.password=keystore\n\
    ssl.keystore.type=PKCS12\n\
    ssl.truststore.location=KEYS/ca.pem\n\
    ssl.truststore.type=PEM\n";

/// A key of the broker's own with a certificate that it signed itself, which clients are given to trust.
fn make_keys(folder: &Path) {
    let store = folder.join("broker.p12");
    let keytool = |arguments: &[&str]| {
        let ran = Command::new("keytool")
            .args(arguments)
            .args(["-alias", "broker", "-storepass", "keystore", "-keystore"])
            .arg(&store)
            .output()
            .expect("keytool runs");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
    };
    keytool(&[
        "-genkeypair",
        "-keyalg",
        "RSA",
        "-keysize",
        "2048",
        "-dname",
        "CN=127.0.0.1",
        "-ext",
        "SAN=IP:127.0.0.1",
        "-validity",
        "2",
        "-storetype",
        "PKCS12",
    ]);
    let pem = folder.join("ca.pem").display().to_string();
    keytool(&["-exportcert", "-rfc", "-file", &pem]);
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_and_scram_over_tls_write_and_read_and_a_wrong_password_says_so() {
    let keys = tempfile::tempdir().expect("a folder");
    if super::variable("KAFKA_LIBS").is_none() {
        return;
    }
    make_keys(keys.path());
    let settings = SETTINGS.replace("KEYS", &keys.path().display().to_string());
    let scram = "SCRAM-SHA-512=[name=scram,password=scram-secret]";
    let scram256 = "SCRAM-SHA-256=[name=scram,password=scram-secret]";
    let options = ["--add-scram", scram, "--add-scram", scram256];
    let Some(broker) = Broker::start(&settings, &options) else {
        return;
    };
    let ca = keys.path().join("ca.pem").display().to_string();
    let secure = |mechanism: &str, user: &str, password: &str| {
        let mut topics = Topics::new(&broker.address);
        for (name, value) in [
            ("security.protocol", "SASL_SSL"),
            ("ssl.ca.location", &ca),
            ("sasl.mechanism", mechanism),
            ("sasl.username", user),
            ("sasl.password", password),
        ] {
            topics
                .options
                .properties
                .insert(name.to_owned(), value.to_owned());
        }
        topics
    };
    broker.wait(&secure("PLAIN", "plain", "plain-secret").config());
    for (mechanism, user, password) in [
        ("PLAIN", "plain", "plain-secret"),
        ("SCRAM-SHA-512", "scram", "scram-secret"),
        ("SCRAM-SHA-256", "scram", "scram-secret"),
    ] {
        let topics = secure(mechanism, user, password);
        let journal = topics.open(&["a"]).await;
        journal.append(vec![batch("a", 1, 1)]).await.expect("appends");
        let records = read_all(&*journal, &name("a"), Offset(0)).await;
        assert_eq!(records.len(), 1, "{mechanism}");
        assert!(!format!("{journal:?}").contains(password));
        journal.close().await;
    }
    let mut wrong = secure("SCRAM-SHA-512", "scram", "no-such-password");
    wrong.options.timeout = Duration::from_secs(3);
    let refused = KafkaJournal::open(wrong.options.clone(), &shared([stream("a")])).await;
    let error = refused.expect_err("refused");
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.to_lowercase().contains("auth") && !text.contains("no-such-password"),
        "{text}"
    );
    // Its topics were never made.
    std::mem::forget(wrong);
}
