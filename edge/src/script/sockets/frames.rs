//! Between the frames of a WebSocket and the messages of a script. Pings are answered here, and a close by a close with its code.
//!
//! ```text
//! open ──we have said the last──▶ the other's last is waited for ──▶ over
//!   ├──the other has──▶ the script's last is waited for ──▶ over
//!   └──lost, or what is no message──▶ over
//! ```
//!
//! What fails, and what happens then:
//! * The script breaks off, or its process ends: the other end is closed with 1011.
//! * The edge stops: with 1001.
//! * A message is too long, no text, or against the protocol: with 1009, 1007, 1002; the script loses the connection.
//! * The script does not read: nothing is read for it, and the other end's writes come to a stand.

use std::time::Duration;

use berth_script::message::{MESSAGE_BYTES, NO_CODE, SocketMessage, SocketMessages};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};
use tokio_util::sync::CancellationToken;

use super::super::Body;
use super::super::upgraded::Stream;

/// How long the other end may take to answer a close, and a script.
const CLOSE_WAIT: Duration = Duration::from_secs(10);

/// The same when the edge stops: a part of the grace that requests get.
const LEAVE_WAIT: Duration = Duration::from_secs(2);

/// Most bytes that are still read after that, for the close to be heard.
const REST_BYTES: usize = 16 << 20;

/// Buffer of each direction, in bytes; a message that is longer has more while it is under way.
const BUFFER_BYTES: usize = 4 << 10;

type Socket = WebSocketStream<Box<dyn Stream>>;

/// Where messages go on their way to a script: one at a time.
pub(crate) type Incoming = mpsc::Sender<Bytes>;

/// Messages on their way to a script. It ends when their sender is gone; without a close before, the connection is lost.
pub(crate) fn incoming() -> (Incoming, Body) {
    let (sender, received) = mpsc::channel(1);
    let frames = ReceiverStream::new(received).map(|bytes| Ok(Frame::data(bytes)));
    (sender, Body::new(StreamBody::new(frames)))
}

/// What a script sends.
struct Outgoing {
    body: Body,
    messages: SocketMessages,
}

/// Why messages come no more.
enum Ends {
    /// By a close.
    Closed,
    /// The connection is gone.
    Lost,
    /// The other end is to be told this code.
    Broken(CloseCode),
}

/// Carries messages between a connection and a script, until both have said their last, one is lost, or `stop`.
pub(crate) async fn carry(
    stream: Box<dyn Stream>,
    role: Role,
    outgoing: Body,
    incoming: Incoming,
    stop: &CancellationToken,
) {
    let mut config = WebSocketConfig::default();
    config.read_buffer_size = BUFFER_BYTES;
    config.write_buffer_size = BUFFER_BYTES;
    config.max_message_size = Some(MESSAGE_BYTES);
    config.max_frame_size = config.max_message_size;
    let (mut sink, mut source) = WebSocketStream::from_raw_socket(stream, role, Some(config)).await.split();
    let mut outgoing = Outgoing { body: outgoing, messages: SocketMessages::default() };
    let mut reading = Box::pin(read(&mut source, incoming));
    let step = tokio::select! {
        biased;
        () = stop.cancelled() => Step::Say(CloseCode::Away, LEAVE_WAIT),
        ends = &mut reading => Step::Heard(ends),
        said = write(&mut outgoing, &mut sink) => said,
    };
    match step {
        Step::Heard(Ends::Lost) | Step::Gone => {}
        Step::Heard(Ends::Closed) => {
            // The answer to it is in the buffer.
            drop(tokio::time::timeout(LEAVE_WAIT, sink.flush()).await);
            drop(reading);
            drop(sink.reunite(source));
            // The script's own comes too late, but must not look as if its client had gone before.
            let rest = async { while let Some(Ok(_)) = outgoing.body.frame().await {} };
            drop(tokio::time::timeout(CLOSE_WAIT, rest).await);
        }
        Step::Heard(Ends::Broken(code)) => {
            last(&mut sink, code).await;
            drop(reading);
            if let Ok(mut socket) = sink.reunite(source) {
                drop(tokio::time::timeout(LEAVE_WAIT, drop_rest(socket.get_mut())).await);
            }
        }
        Step::Said => drop(tokio::time::timeout(CLOSE_WAIT, reading).await),
        Step::Say(code, wait) => {
            let leave = async {
                last(&mut sink, code).await;
                reading.await;
            };
            drop(tokio::time::timeout(wait, leave).await);
        }
    }
}

/// What comes first.
enum Step {
    Heard(Ends),
    /// The script's last has gone.
    Said,
    /// The other end does not read any more.
    Gone,
    /// The other end is to be told this code, and has so long to answer.
    Say(CloseCode, Duration),
}

/// Reads until nothing more comes.
async fn read(source: &mut SplitStream<Socket>, incoming: Incoming) -> Ends {
    loop {
        let message = match source.next().await {
            None => return Ends::Lost,
            Some(Err(error)) => return ends_with(&error),
            Some(Ok(Message::Text(text))) => SocketMessage::Text(text.as_str().to_owned()),
            Some(Ok(Message::Binary(bytes))) => SocketMessage::Binary(bytes.to_vec()),
            Some(Ok(Message::Close(frame))) => {
                let (code, reason) = frame.map_or((NO_CODE, String::new()), |frame| {
                    (frame.code.into(), frame.reason.as_str().to_owned())
                });
                let last = SocketMessage::Close(code, reason).to_bytes();
                drop(incoming.send(last.into()).await);
                return Ends::Closed;
            }
            Some(Ok(_)) => continue,
        };
        if incoming.send(message.to_bytes().into()).await.is_err() {
            return Ends::Broken(CloseCode::Error);
        }
    }
}

/// Reads what still comes, and drops it: over what is unread the close would be lost.
async fn drop_rest(stream: &mut Box<dyn Stream>) {
    let (mut buffer, mut rest) = (vec![0; BUFFER_BYTES], REST_BYTES);
    while let Ok(read @ 1..) = stream.read(&mut buffer).await
        && rest > read
    {
        rest -= read;
    }
}

fn ends_with(error: &Error) -> Ends {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => Ends::Broken(CloseCode::Size),
        Error::Utf8(_) => Ends::Broken(CloseCode::Invalid),
        Error::Protocol(_) => Ends::Broken(CloseCode::Protocol),
        _ => Ends::Lost,
    }
}

/// Writes until the script has said its last.
async fn write(outgoing: &mut Outgoing, sink: &mut SplitSink<Socket, Message>) -> Step {
    let broken = Step::Say(CloseCode::Error, CLOSE_WAIT);
    loop {
        let bytes = match outgoing.body.frame().await {
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            Some(Err(_)) | None => return broken,
        };
        outgoing.messages.extend(&bytes);
        loop {
            let message = match outgoing.messages.next_message() {
                Ok(Some((message, _))) => message,
                Ok(None) => break,
                Err(_) => return broken,
            };
            let is_last = matches!(message, SocketMessage::Close(..));
            let Some(message) = to_frame(message) else { return broken };
            if sink.send(message).await.is_err() {
                return Step::Gone;
            }
            if is_last {
                return Step::Said;
            }
        }
    }
}

/// As a frame; `None` for a close with a code that none may have.
fn to_frame(message: SocketMessage) -> Option<Message> {
    match message {
        SocketMessage::Text(text) => Some(Message::text(text)),
        SocketMessage::Binary(bytes) => Some(Message::binary(bytes)),
        SocketMessage::Close(NO_CODE, _) => Some(Message::Close(None)),
        SocketMessage::Close(code, reason) => {
            let code = CloseCode::from(code);
            code.is_allowed().then(|| Message::Close(Some(CloseFrame { code, reason: reason.into() })))
        }
    }
}

/// Closes with a code of our own.
async fn last(sink: &mut SplitSink<Socket, Message>, code: CloseCode) {
    let frame = CloseFrame { code, reason: "".into() };
    // Whether it arrives is not known anyway.
    drop(sink.send(Message::Close(Some(frame))).await);
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
    use tokio::task::JoinHandle;

    use super::*;

    type Other = WebSocketStream<DuplexStream>;

    /// A connection whose other end is given, the messages that come of it, and how to send some.
    struct Carried {
        other: Other,
        came: Body,
        send: Option<Incoming>,
        stop: CancellationToken,
        task: JoinHandle<()>,
    }

    async fn carried() -> Carried {
        let (near, far) = duplex(1 << 10);
        let other = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
        let ((send, outgoing), (sender, came), stop) = (incoming(), incoming(), CancellationToken::new());
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            carry(Box::new(near), Role::Server, outgoing, sender, &stopped).await;
        });
        Carried { other, came, send: Some(send), stop, task }
    }

    impl Carried {
        async fn says(&self, message: SocketMessage) {
            self.send.as_ref().unwrap().send(message.to_bytes().into()).await.unwrap();
        }

        async fn hears(&mut self) -> Option<SocketMessage> {
            let mut messages = SocketMessages::default();
            messages.extend(&self.came.frame().await?.unwrap().into_data().unwrap());
            messages.next_message().unwrap().map(|(message, _)| message)
        }

        async fn told(&mut self) -> Option<Message> {
            self.other.next().await.and_then(Result::ok)
        }
    }

    fn code(message: Option<Message>) -> Option<u16> {
        match message {
            Some(Message::Close(frame)) => Some(frame.map_or(NO_CODE, |frame| frame.code.into())),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn messages_pass_and_closes_keep_their_codes() {
        let mut one = carried().await;
        one.says(SocketMessage::Text("é".to_owned())).await;
        one.says(SocketMessage::Binary(vec![0, 1])).await;
        assert_eq!(one.told().await, Some(Message::text("é")));
        assert_eq!(one.told().await, Some(Message::binary(vec![0, 1])));
        one.other.send(Message::Ping(Bytes::from_static(b"p"))).await.unwrap();
        one.other.send(Message::text("there")).await.unwrap();
        assert_eq!(one.hears().await, Some(SocketMessage::Text("there".to_owned())));
        assert_eq!(one.told().await, Some(Message::Pong(Bytes::from_static(b"p"))));
        one.says(SocketMessage::Close(4001, "bye".to_owned())).await;
        assert_eq!(code(one.told().await), Some(4001));
        one.other.flush().await.unwrap();
        assert_eq!(one.hears().await, Some(SocketMessage::Close(4001, "bye".to_owned())));
        assert_eq!(one.hears().await, None);
        one.task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_close_of_the_other_end_is_answered_and_told() {
        for (frame, said) in [(None, NO_CODE), (Some(4002), 4002)] {
            let mut one = carried().await;
            let frame = frame.map(|code| CloseFrame { code: CloseCode::from(code), reason: "r".into() });
            one.other.send(Message::Close(frame)).await.unwrap();
            assert!(matches!(one.hears().await, Some(SocketMessage::Close(code, _)) if code == said));
            assert_eq!(code(one.told().await), Some(said));
            one.says(SocketMessage::Close(1000, String::new())).await;
            one.send = None;
            one.task.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ends_that_nobody_says_have_codes_of_their_own() {
        let mut one = carried().await;
        one.send = None;
        assert_eq!(code(one.told().await), Some(1011));
        let mut one = carried().await;
        one.stop.cancel();
        assert_eq!(code(one.told().await), Some(1001));
        one.other.flush().await.unwrap();
        assert_eq!(one.hears().await, Some(SocketMessage::Close(1001, String::new())));
        one.task.await.unwrap();
        let mut one = carried().await;
        one.says(SocketMessage::Close(1006, String::new())).await;
        assert_eq!(code(one.told().await), Some(1011));
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_is_too_long_or_none_at_all_ends_it() {
        for (bytes, said) in [
            // A frame of 2 MiB; of an unknown kind; a text that is none. Each masked with zeros.
            (&[0x82, 0xff, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0][..], 1009),
            (&[0x83, 0x80, 0, 0, 0, 0][..], 1002),
            (&[0x81, 0x81, 0, 0, 0, 0, 0xff][..], 1007),
        ] {
            let mut one = carried().await;
            one.other.get_mut().write_all(bytes).await.unwrap();
            assert_eq!(code(one.told().await), Some(said));
            assert_eq!(one.hears().await, None);
            one.task.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_that_does_not_answer_is_given_up_and_one_that_is_gone_is_no_close() {
        let one = carried().await;
        one.says(SocketMessage::Close(1000, String::new())).await;
        let began = tokio::time::Instant::now();
        one.task.await.unwrap();
        assert_eq!(began.elapsed().as_secs(), CLOSE_WAIT.as_secs());
        let mut one = carried().await;
        drop(std::mem::replace(&mut one.other, carried().await.other));
        assert_eq!(one.hears().await, None);
        one.task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_read_for_a_script_that_does_not_read() {
        let mut one = carried().await;
        let flood = async {
            loop {
                one.other.send(Message::binary(vec![0; 1000])).await.unwrap();
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(60), flood).await.is_err());
        assert!(one.hears().await.is_some());
    }
}
