//! The vendor's side of a run: takes one subscriber, and writes it events as fast as it reads or at a rate.
//!
//! The frames are made before the run, so that what is measured is not the vendor. It answers pings, and
//! an HTTP request for the list with an empty one.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{Message, accept};

/// Frames are written in pieces of about this size.
const PIECE: usize = 64 * 1024;

/// Frames as they go over the wire.
pub(crate) struct Frames {
    bytes: Vec<u8>,
    /// Where each frame ends.
    ends: Vec<usize>,
}

impl Frames {
    /// Events with the numbers `from..from + count`, each of a user that is picked evenly.
    pub(crate) fn new(from: usize, count: usize, users: usize) -> Self {
        let mut frames = Self {
            bytes: Vec::with_capacity(count * 760),
            ends: Vec::with_capacity(count),
        };
        for number in from..from + count {
            let text = event(number, user(number, users));
            let length = u16::try_from(text.len()).expect("a short frame");
            frames.bytes.extend([0x81, 126]);
            frames.bytes.extend(length.to_be_bytes());
            frames.bytes.extend(text.as_bytes());
            frames.ends.push(frames.bytes.len());
        }
        frames
    }

    pub(crate) fn count(&self) -> usize {
        self.ends.len()
    }

    /// The wire's bytes of some frames.
    fn slice(&self, from: usize, to: usize) -> &[u8] {
        let start = from.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[to - 1]]
    }
}

/// Which user an event is of: no user comes at regular distances.
pub(crate) fn user(number: usize, users: usize) -> usize {
    let mixed = (number as u64 ^ 0x9e37_79b9).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    usize::try_from((mixed >> 32) % users as u64).expect("a number below `users`")
}

/// The mark by which a consumer knows an event.
pub(crate) const MARK: &[u8] = b"mark-";

/// One message of the feed, about 700 bytes, of an invented person.
pub(crate) fn event(number: usize, user: usize) -> String {
    let sequence = number + 3;
    let time = 1_716_998_127_995_988_841_u64 + 1000 * number as u64;
    let token = "eyJhbGciOiJub25lIn0.c2FtcGxlLXRva2VuLW9mLW5vYm9keQ.".repeat(2);
    format!(
        r#"{{"sequence":{sequence},"timestamp":{time},"recipient":"private.enterprise.users","payload":{{"user_id":"client_{user:08}","account_type":"individual","account_role":"client","email":"person{user:08}@example.test","first_name":"mark-{number:08}","last_name":"Example","phone_number":"+15550100001","status":"VERIFIED","requirements":{{"email":false,"sms":false,"identity_document":false,"proof_of_address":false}},"user_token":"{token}"}}}}"#
    )
}

/// What a run asks the vendor to do.
struct Order {
    frames: Arc<Frames>,
    rate: Option<f64>,
    done: mpsc::Sender<Sent>,
}

/// When each piece was given to the kernel.
pub(crate) struct Sent {
    pub(crate) started: Instant,
    /// Of each frame, if a rate was asked for.
    pub(crate) times: Vec<Instant>,
}

pub(crate) struct Vendor {
    pub(crate) address: SocketAddr,
    orders: mpsc::Sender<Order>,
    subscribed: mpsc::Receiver<Instant>,
}

impl Vendor {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (orders, to_do) = mpsc::channel();
        let (tell, subscribed) = mpsc::channel();
        std::thread::spawn(move || serve(&listener, &to_do, &tell));
        Self {
            address,
            orders,
            subscribed,
        }
    }

    /// Waits for the candidate.
    pub(crate) fn subscribed(&self, within: Duration) -> Option<Instant> {
        self.subscribed.recv_timeout(within).ok()
    }

    /// Sends the events; resolves once the kernel has all of them.
    pub(crate) fn send(&self, frames: &Arc<Frames>, rate: Option<f64>) -> mpsc::Receiver<Sent> {
        let (done, wait) = mpsc::channel();
        let frames = Arc::clone(frames);
        let order = Order { frames, rate, done };
        self.orders.send(order).expect("the vendor lives");
        wait
    }
}

fn serve(listener: &TcpListener, orders: &mpsc::Receiver<Order>, tell: &mpsc::Sender<Instant>) {
    loop {
        let (stream, _) = listener.accept().expect("a connection");
        if is_list(&stream) {
            answer_list(stream);
            continue;
        }
        // Else each event waits for the reader's delayed acknowledgement of the last one.
        stream.set_nodelay(true).expect("a socket");
        let closing = stream.try_clone().expect("a clone");
        let writer = Arc::new(Mutex::new(stream.try_clone().expect("a clone")));
        let shared = Shared(stream, Arc::clone(&writer));
        let Ok(mut socket) = accept(shared) else {
            continue;
        };
        let tell = tell.clone();
        // Answers what the candidate says, and its pings, beside the events.
        std::thread::spawn(move || {
            let mut replies = 0;
            while let Ok(message) = socket.read() {
                let Message::Text(text) = message else {
                    continue;
                };
                replies += 1;
                // Who can send but one message subscribes by that.
                let subscribes = replies == 2 || text.contains("subscribe");
                let action = match subscribes {
                    true => "subscribe",
                    false => "authenticate",
                };
                let reply = format!(
                    r#"{{"type":"success","sequence":{replies},"timestamp":17,"action":"{action}"}}"#
                );
                if socket.send(Message::text(reply)).is_err() {
                    return;
                }
                if subscribes {
                    tell.send(Instant::now()).expect("the run listens");
                }
            }
            // Its close was answered; the other side waits for the end.
            drop(closing.shutdown(Shutdown::Both));
        });
        let listener = listener.try_clone().expect("a clone");
        // Whoever comes meanwhile asks for the list.
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                answer_list(stream);
            }
        });
        for Order { frames, rate, done } in orders {
            let Ok(sent) = send(&writer, &frames, rate) else {
                continue; // the candidate is gone: its run fails by itself
            };
            done.send(sent).unwrap_or_default();
        }
        return;
    }
}

fn send(writer: &Mutex<TcpStream>, frames: &Frames, rate: Option<f64>) -> io::Result<Sent> {
    let started = Instant::now();
    let mut times = Vec::new();
    let mut next = 0;
    while next < frames.count() {
        let mut end = next + 1;
        if let Some(rate) = rate {
            let due = started + Duration::from_secs_f64(next as f64 / rate);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            times.push(Instant::now());
        } else {
            while end < frames.count() && frames.slice(next, end).len() < PIECE {
                end += 1;
            }
        }
        let mut writer = writer.lock().expect("no writer panics");
        writer.write_all(frames.slice(next, end))?;
        next = end;
    }
    Ok(Sent { started, times })
}

/// Reads by itself, and writes whole frames only.
struct Shared(TcpStream, Arc<Mutex<TcpStream>>);

impl Read for Shared {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes)
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut writer = self.1.lock().expect("no writer panics");
        writer.write_all(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether it is a request for the list; nothing is taken from the stream.
fn is_list(stream: &TcpStream) -> bool {
    let mut bytes = [0; 8];
    let peeked = stream.peek(&mut bytes).unwrap_or_default();
    bytes[..peeked].starts_with(b"GET /v1")
}

fn answer_list(mut stream: TcpStream) {
    let mut request = [0; 4096];
    let body = r#"{"data":[]}"#;
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    if stream.read(&mut request).is_ok() {
        stream.write_all(answer.as_bytes()).unwrap_or_default();
    }
}
