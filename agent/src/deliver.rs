//! A connection over which an edge offers images: takes what the edge wants held, and tells how far it is. The images
//! themselves come over streams that `images` opens.

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

/// How often an edge is told how far images are: often enough for a bar that moves. Ends are told at once: somebody may wait.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// What the edge was told last of each image that it wants. It forgets what it does not want for a moment, however short, and
/// must be told of it again.
type SentStates = RefCell<HashMap<Digest, ImageState>>;

/// The edge's first call, and the stream that it came on.
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
    let told = SentStates::default();
    let Err(end) = tokio::select! {
        never = take_wants(images, &session.edge, &mut recv, &told) => never,
        never = tell(images, &session.edge, &mut send, &told) => never,
        () = session.superseded() => {
            Err(Breach::Superseded("a newer connection for images has taken over".to_owned()).into())
        }
        reason = connection.closed() => {
            tracing::info!(edge = %session.edge, %reason, "an edge offers no images any more");
            Err(StreamEnd::Gone)
        }
    };
    images.sources().remove(&session.edge, connection);
    if matches!(end, StreamEnd::Gone) {
        connection.close(VarInt::from_u32(berth_common::wire::close::SHUTDOWN), b"");
    }
    Err(end)
}

async fn take_wants(
    images: &Rc<Images>,
    edge: &EdgeId,
    recv: &mut RecvStream,
    told: &SentStates,
) -> Result<Infallible, StreamEnd> {
    loop {
        let wanted: Wanted = frame::read(recv).await?.ok_or(StreamEnd::Gone)?;
        if wanted.images.len() > MAX_WANTED {
            return Err(Breach::Protocol(format!("more than {MAX_WANTED} images are wanted")).into());
        }
        tracing::info!(%edge, images = wanted.images.len(), "images are wanted");
        let still: HashSet<Digest> = wanted.images.iter().copied().collect();
        told.borrow_mut().retain(|image, _| still.contains(image));
        images.want(edge, wanted.images);
    }
}

/// Tells each change, and at first all.
async fn tell(
    images: &Rc<Images>,
    edge: &EdgeId,
    send: &mut SendStream,
    told: &SentStates,
) -> Result<Infallible, StreamEnd> {
    let mut settled = images.settled();
    loop {
        for status in images.statuses(edge) {
            // Noted before it is sent: the edge may want something else meanwhile.
            if told.borrow_mut().insert(status.image, status.state.clone()).as_ref() != Some(&status.state) {
                frame::write(send, &status).await?;
            }
        }
        let _ = tokio::time::timeout(TELL_EVERY, settled.changed()).await;
    }
}
