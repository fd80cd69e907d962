//! Questions to servers in their own protocols, as few bytes as tell "it works" from "somebody listens".

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// One question is answered within this time, or asked again.
const PATIENCE: Duration = Duration::from_secs(2);

/// Longest answer that is read.
const ANSWER_BYTES_MAX: u32 = 1 << 20;

fn connect(address: &str) -> Result<TcpStream, String> {
    let parsed: SocketAddr = address
        .parse()
        .map_err(|error| format!("address `{address}`: {error}"))?;
    let stream = TcpStream::connect_timeout(&parsed, PATIENCE)
        .map_err(|error| format!("connect to `{address}`: {error}"))?;
    let bounded = stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
    bounded.map_err(|error| format!("bound `{address}`: {error}"))?;
    Ok(stream)
}

/// Asks a Kafka broker which brokers there are: it must know itself, which it does once it takes requests.
pub(super) fn kafka(address: &str) -> Result<(), String> {
    let mut stream = connect(address)?;
    // Metadata, version 1, correlation 7, no client's name, no topics.
    let request = [3_i16.to_be_bytes(), 1_i16.to_be_bytes()].concat();
    let request = [
        request,
        7_i32.to_be_bytes().to_vec(),
        (-1_i16).to_be_bytes().to_vec(),
        0_i32.to_be_bytes().to_vec(),
    ]
    .concat();
    let length = u32::try_from(request.len()).map_err(|error| error.to_string())?;
    let answer = stream
        .write_all(&[length.to_be_bytes().to_vec(), request].concat())
        .and_then(|()| {
            let mut length = [0; 4];
            stream.read_exact(&mut length)?;
            let mut answer = Vec::new();
            let length = u32::from_be_bytes(length).min(ANSWER_BYTES_MAX);
            stream.take(u64::from(length)).read_to_end(&mut answer)?;
            Ok(answer)
        })
        .map_err(|error| format!("ask `{address}` for brokers: {error}"))?;
    let correlation = answer.get(..4);
    let brokers = answer.get(4..8);
    match (correlation, brokers) {
        (Some([0, 0, 0, 7]), Some(count)) if count != [0, 0, 0, 0] => Ok(()),
        _ => Err(format!("the broker at `{address}` does not take part yet")),
    }
}

/// Shows a Redis server its password and asks for a `PONG`.
pub(super) fn redis(address: &str, password: &str) -> Result<(), String> {
    let mut stream = connect(address)?;
    let request = format!("AUTH {password}\r\nPING\r\n");
    let mut answer = [0; 12];
    stream
        .write_all(request.as_bytes())
        .and_then(|()| stream.read_exact(&mut answer))
        .map_err(|error| format!("ping `{address}`: {error}"))?;
    if &answer == b"+OK\r\n+PONG\r\n" {
        return Ok(());
    }
    let answer = String::from_utf8_lossy(&answer);
    Err(format!("`{address}` answers {answer:?} to a ping"))
}

/// Greets an AMQP 0-9-1 broker, which answers with the method connection.start.
pub(super) fn amqp(address: &str) -> Result<(), String> {
    let mut stream = connect(address)?;
    let mut answer = [0; 11];
    stream
        .write_all(b"AMQP\x00\x00\x09\x01")
        .and_then(|()| stream.read_exact(&mut answer))
        .map_err(|error| format!("greet `{address}`: {error}"))?;
    // A method frame on channel 0, whose class is 10 and whose method is 10.
    match answer {
        [1, 0, 0, _, _, _, _, 0, 10, 0, 10] => Ok(()),
        _ => Err(format!("`{address}` answers {answer:?} to a greeting")),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Listens, reads one request, and answers with those bytes.
    fn listening(answer: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let address = listener.local_addr().expect("has an address").to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accepts");
            let mut request = [0; 512];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(answer);
        });
        address
    }

    #[test]
    fn somebody_who_only_listens_does_not_answer() {
        assert!(kafka(&listening(b"")).is_err());
        assert!(redis(&listening(b"HTTP/1.1 400 Bad"), "x").is_err());
        assert!(amqp(&listening(b"HTTP/1.1 400 Bad")).is_err());
        assert!(kafka("127.0.0.1").is_err());
    }

    #[test]
    fn a_broker_that_knows_no_broker_is_not_up() {
        let none = b"\x00\x00\x00\x0c\x00\x00\x00\x07\x00\x00\x00\x00\xff\xff\xff\xff";
        let one = b"\x00\x00\x00\x0c\x00\x00\x00\x07\x00\x00\x00\x01\x00\x00\x00\x01";
        assert!(kafka(&listening(none)).is_err());
        assert_eq!(kafka(&listening(one)), Ok(()));
    }

    #[test]
    fn the_right_answers_are_taken() {
        assert_eq!(redis(&listening(b"+OK\r\n+PONG\r\n"), "x"), Ok(()));
        let start = b"\x01\x00\x00\x00\x00\x01\xf6\x00\x0a\x00\x0a\x00\x09";
        assert_eq!(amqp(&listening(start)), Ok(()));
    }
}
