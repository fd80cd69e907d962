//! Redis, with an append-only file, so that a restart keeps what was written.

use super::home::{Home, write_private};
use super::probe;
use super::server::{Launch, Server};

pub(super) struct Redis;

impl Server for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn prepare(&self, _home: &Home) -> Result<(), String> {
        Ok(())
    }

    fn launch(&self, home: &Home) -> Result<Launch, String> {
        let settings = format!(
            "bind 127.0.0.1\nport {}\nrequirepass {}\nappendonly yes\nsave \"\"\ndaemonize no\n",
            home.value("port"),
            home.value("password"),
        );
        write_private(&home.directory().join("redis.conf"), &settings)?;
        let directory = ["--dir".to_owned(), home.data()];
        Ok(Launch::of("redis-server")
            .with([home.file("redis.conf")])
            .with(directory))
    }

    fn answers(&self, home: &Home) -> Result<(), String> {
        probe::redis(&home.address("port"), home.value("password"))
    }

    fn variables(&self, home: &Home) -> Vec<(&'static str, String)> {
        let url = format!("redis://:{}@{}/0", home.value("password"), home.address("port"));
        vec![("REDIS_URL", url)]
    }
}
