// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `GET /metrics` on a loopback address. It hands out a text that the agent made, and can do nothing else;
//! in a thread of its own, so that whoever connects and is slow keeps nobody but the next one waiting.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;

/// The listener, and the text that it hands out.
#[derive(Debug)]
pub(crate) struct Listener {
    text: Arc<Mutex<Arc<str>>>,
}

impl Listener {
    /// Listens from now on.
    ///
    /// # Errors
    /// If the address is taken.
    pub(crate) fn start(address: SocketAddr) -> anyhow::Result<Self> {
        let failed = || format!("failed to listen on {address} for metrics");
        let listener = TcpListener::bind(address).with_context(failed)?;
        let text: Arc<Mutex<Arc<str>>> = Arc::new(Mutex::new("# EOF\n".into()));
        let handed_out = Arc::clone(&text);
        std::thread::Builder::new()
            .name("metrics".to_owned())
            .spawn(move || {
                for connection in listener.incoming().flatten() {
                    let text =
                        Arc::clone(&handed_out.lock().unwrap_or_else(PoisonError::into_inner));
                    // Whoever goes away has no answer.
                    drop(answer(connection, &text));
                }
            })
            .with_context(failed)?;
        Ok(Self { text })
    }

    /// Hands this out from now on.
    pub(crate) fn hand_out(&self, text: &str) {
        *self.text.lock().unwrap_or_else(PoisonError::into_inner) = text.into();
    }
}

fn answer(mut connection: TcpStream, text: &str) -> std::io::Result<()> {
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    let mut request = [0; MOST];
    let mut size = 0;
    // The first line is enough; what follows is read so that the answer is not cut off.
    while !request.get(..size).is_some_and(|read| read.ends_with(b"\r\n\r\n")) {
        let Some(rest) = request.get_mut(size..).filter(|rest| !rest.is_empty()) else { break };
        match connection.read(rest)? {
            0 => break,
            read => size += read,
        }
    }
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let (status, body) = match line {
        line if line.starts_with(b"GET /metrics HTTP/1.") => ("200 OK", text),
        line if line.starts_with(b"GET ") => ("404 Not Found", "there is /metrics\n"),
        _ => ("405 Method Not Allowed", "there is GET /metrics\n"),
    };
    let kind = if status.starts_with("200") { OPENMETRICS } else { "text/plain; charset=utf-8" };
    let length = body.len();
    write!(
        connection,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
}

/// For a whole request.
const MOST: usize = 4096;
const PATIENCE: Duration = Duration::from_secs(1);
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(address: SocketAddr, request: &str) -> String {
        let mut connection = TcpStream::connect(address).unwrap();
        connection.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn it_hands_out_the_last_text_and_nothing_else() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listener = Listener::start(free).unwrap();
        listener.hand_out("x 1\n# EOF\n");
        let good = ask(free, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(good.starts_with("HTTP/1.1 200 OK\r\n"), "{good}");
        assert!(good.contains("application/openmetrics-text"), "{good}");
        assert!(good.ends_with("\r\n\r\nx 1\n# EOF\n"), "{good}");
        assert!(ask(free, "GET /etc/shadow HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
        assert!(ask(free, "POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405"));
        // Longer than is read: refused or answered, and the next one is served.
        drop(TcpStream::connect(free).unwrap().write_all(&[b'x'; 2 * MOST]));
        assert!(ask(free, "GET /metrics HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 200"));
        assert!(Listener::start(free).is_err(), "the address is taken");
    }
}
