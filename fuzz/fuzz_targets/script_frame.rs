//! What comes over the socket of a script process: any bytes are messages, which survive their frames, or an error; and what
//! is held is bounded by what came.

#![no_main]

use berth_script_message::{Direction, Effect, Event, Inbound, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let step = usize::from(*first).max(1);
    read::<Effect>(bytes, step);
    read::<Event>(bytes, step);
});

fn read<T: Direction + PartialEq + std::fmt::Debug>(bytes: &[u8], step: usize) {
    let mut inbound = Inbound::<T>::default();
    for piece in bytes.chunks(step) {
        inbound.extend(piece);
        loop {
            match inbound.next_message() {
                Ok(Some(message)) => survives(&message),
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

fn survives<T: Direction + PartialEq + std::fmt::Debug>(message: &T) {
    let mut frame = Vec::new();
    encode(message, &mut frame).expect("what was read can be written");
    let mut inbound = Inbound::<T>::default();
    inbound.extend(&frame);
    assert_eq!(inbound.next_message().expect("it is a message").as_ref(), Some(message));
}
