//! Transfers whose edge goes away in the middle.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use super::*;

/// An edge that answers one order after the other with these lines; where they have no end, the connection breaks off.
async fn order(answers: &[&str]) -> Result<Done> {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("s")).unwrap();
    let admin = Admin::at(dir.path().join("s"));
    let answers: Vec<String> = answers.iter().map(|&lines| lines.to_owned()).collect();
    let serving = tokio::spawn(async move {
        for lines in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"}") {
                request.push(stream.read_u8().await.unwrap());
            }
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            let chunk = format!("{head}{:x}\r\n{lines}\r\n", lines.len());
            let chunk = if lines == BUSY { lines } else { chunk };
            stream.write_all(chunk.as_bytes()).await.unwrap();
        }
    });
    let order =
        PullOrder { reference: "r.example/a".to_owned(), credentials: None, platform: None, tag: false };
    let result = transfer(&admin, "/v1/images/pull", &order).await;
    serving.abort();
    result
}

/// The whole answer of an edge that ends or starts.
const BUSY: &str = "HTTP/1.1 503 X\r\nretry-after: 2\r\ncontent-length: 0\r\n\r\n";

#[tokio::test]
async fn an_edge_that_is_restarted_is_waited_for() {
    let end = format!("{}\n", serde_json::to_string(&TransferLine::Done { done: done() }).unwrap());
    assert_eq!(order(&[BUSY, BUSY, &end]).await.unwrap().bytes, 7);
    assert_eq!(order(&[&step(), BUSY, &end]).await.unwrap().bytes, 7);
    let error = order(&[BUSY; 6]).await.unwrap_err();
    assert_eq!(asked_to_wait(&error), Some(Duration::from_secs(2)), "{error:#}");
    // Where there was no edge at all, nothing is waited for.
    let nobody = Admin::at("/nowhere/admin.sock");
    let error = transfer(&nobody, "/v1/images/pull", &()).await.unwrap_err();
    assert!(asked_to_wait(&error).is_none() && may_be_starting(&error), "{error:#}");
}

fn done() -> Done {
    Done { repository: "r.example/a".to_owned(), digest: Digest::of(b"y"), bytes: 7 }
}

fn step() -> String {
    let step = Step { phase: Phase::Pull, blob: Digest::of(b"x"), done: 1, total: 2 };
    format!("{}\n", serde_json::to_string(&TransferLine::Step(step)).unwrap())
}

#[tokio::test]
async fn a_transfer_is_taken_up_again_where_the_edge_went_away() {
    let end = format!("{}\n", serde_json::to_string(&TransferLine::Done { done: done() }).unwrap());
    let step = step();
    let step = step.as_str();
    assert_eq!(order(&[step, step, &end]).await.unwrap().bytes, 7);
    let error = order(&[step; 5]).await.unwrap_err();
    assert!(format!("{error:#}").contains("goes on from there"));
    let failed =
        r#"{"error":{"type":"about:blank","title":"no","status":404,"detail":"the registry has no x"}}"#;
    // A refusal is final: the second answer is not asked for.
    let error = order(&[&format!("{failed}\n"), &end]).await.unwrap_err();
    assert!(format!("{error:#}").contains("the registry has no x"));
}
