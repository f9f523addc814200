//! A connection over which an edge delivers images: receives the edge's wanted images, and reports their progress. The
//! images themselves come over streams that `images` opens.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use berth_common::ids::EdgeId;
use berth_common::image::Digest;
use berth_common::wire::frame;
use berth_common::wire::images::{ImageState, MAX_WANTED, Wanted};
use quinn::{Connection, RecvStream, SendStream, VarInt};

use crate::images::Images;
use crate::sessions::Session;
use crate::stream::{Breach, StreamEnd};

/// How often progress is reported: often enough for a progress bar. Ready and failed images are reported at once,
/// because a deployment may wait for them.
const REPORT_EVERY: Duration = Duration::from_millis(200);

/// The last state that was sent of each wanted image. The edge forgets the state of an image that it stops wanting,
/// even for a moment, so an image that is wanted again is reported again.
type SentStates = RefCell<HashMap<Digest, ImageState>>;

/// An introduced connection for images, with the stream of its first call.
pub(crate) struct Offer {
    pub(crate) session: Session,
    pub(crate) send: SendStream,
    pub(crate) recv: RecvStream,
}

/// Serves the connection to its end.
pub(crate) async fn serve(
    images: &Rc<Images>,
    offer: Offer,
    connection: &Connection,
) -> Result<(), StreamEnd> {
    let Offer { session, mut send, mut recv } = offer;
    images.sources().add(session.edge.clone(), connection.clone());
    let sent = SentStates::default();
    let Err(end) = tokio::select! {
        never = receive_wanted(images, &session.edge, &mut recv, &sent) => never,
        never = report(images, &session.edge, &mut send, &sent) => never,
        () = session.superseded() => {
            Err(Breach::Superseded("a newer connection for images has taken over".to_owned()).into())
        }
        reason = connection.closed() => {
            tracing::info!(edge = %session.edge, %reason, "the connection for images ended");
            Err(StreamEnd::Gone)
        }
    };
    images.sources().remove(&session.edge, connection);
    if matches!(end, StreamEnd::Gone) {
        connection.close(VarInt::from_u32(berth_common::wire::close::SHUTDOWN), b"");
    }
    Err(end)
}

async fn receive_wanted(
    images: &Rc<Images>,
    edge: &EdgeId,
    recv: &mut RecvStream,
    sent: &SentStates,
) -> Result<Infallible, StreamEnd> {
    loop {
        let wanted: Wanted = frame::read(recv).await?.ok_or(StreamEnd::Gone)?;
        if wanted.images.len() > MAX_WANTED {
            return Err(Breach::Protocol(format!("more than {MAX_WANTED} images are wanted")).into());
        }
        tracing::info!(%edge, images = wanted.images.len(), "wanted images changed");
        let still: HashSet<Digest> = wanted.images.iter().copied().collect();
        sent.borrow_mut().retain(|image, _| still.contains(image));
        images.want(edge, wanted.images);
    }
}

/// Reports the state of all wanted images, and then each change.
async fn report(
    images: &Rc<Images>,
    edge: &EdgeId,
    send: &mut SendStream,
    sent: &SentStates,
) -> Result<Infallible, StreamEnd> {
    let mut settled = images.settled();
    loop {
        for status in images.statuses(edge) {
            // Recorded before it is sent: the wanted images may change while the write waits.
            if sent.borrow_mut().insert(status.image, status.state.clone()).as_ref() != Some(&status.state) {
                frame::write(send, &status).await?;
            }
        }
        let _ = tokio::time::timeout(REPORT_EVERY, settled.changed()).await;
    }
}
