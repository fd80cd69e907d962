//! RabbitMQ, with a port mapper of its own: the usual one listens for the whole machine and stays when the broker
//! ends.

use super::home::{Home, write_private};
use super::probe;
use super::server::{Launch, Server};

/// Starts the port mapper, then becomes the broker.
const START: &str = r#"epmd -port "$ERL_EPMD_PORT" -address 127.0.0.1 &
exec /usr/lib/rabbitmq/bin/rabbitmq-server"#;

pub(super) struct RabbitMq;

impl Server for RabbitMq {
    fn name(&self) -> &'static str {
        "rabbitmq"
    }

    fn ports(&self) -> &'static [&'static str] {
        &["port", "distribution", "mapper"]
    }

    fn prepare(&self, _home: &Home) -> Result<(), String> {
        Ok(())
    }

    fn launch(&self, home: &Home) -> Result<Launch, String> {
        let settings = format!(
            "listeners.tcp.1 = 127.0.0.1:{}\n\
             default_user = tidemill\n\
             default_pass = {}\n\
             disk_free_limit.absolute = 50MB\n\
             log.console = true\n\
             log.file = false\n",
            home.value("port"),
            home.value("password"),
        );
        write_private(&home.directory().join("rabbitmq.conf"), &settings)?;
        write_private(&home.directory().join("enabled_plugins"), "[].\n")?;
        Ok(Launch::of("bash")
            .with(["-c", START])
            .variable("RABBITMQ_NODENAME", "tidemill@localhost")
            .variable("RABBITMQ_DIST_PORT", home.value("distribution"))
            .variable("ERL_EPMD_PORT", home.value("mapper"))
            .variable("ERL_EPMD_ADDRESS", "127.0.0.1")
            .variable("RABBITMQ_CONFIG_FILE", home.file("rabbitmq.conf"))
            .variable("RABBITMQ_CONF_ENV_FILE", home.file("no-environment"))
            .variable("RABBITMQ_ENABLED_PLUGINS_FILE", home.file("enabled_plugins"))
            .variable("RABBITMQ_MNESIA_BASE", home.data())
            .variable("RABBITMQ_LOG_BASE", home.data())
            // The broker's own process is then the one that we started, and not a child of its script.
            .variable("RUNNING_UNDER_SYSTEMD", "true")
            .variable(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-kernel inet_dist_use_interface {127,0,0,1}",
            ))
    }

    fn answers(&self, home: &Home) -> Result<(), String> {
        probe::amqp(&home.address("port"))
    }

    fn variables(&self, home: &Home) -> Vec<(&'static str, String)> {
        let url = format!(
            "amqp://tidemill:{}@{}/%2f",
            home.value("password"),
            home.address("port")
        );
        vec![("AMQP_URL", url)]
    }
}
