//! Finds WebSocket messages in a stream of bytes, by their frame headers alone (RFC 6455 §5.2): text, binary and
//! continuation frames are activity; ping, pong and close are not. Does not check masks, extensions or validity: that
//! is up to the two ends.
//!
//! ```text
//!  ──▶ Header(2 to 14 bytes) ──length──▶ Payload(n, data or control) ──n = 0──▶ Header
//! ```
//!
//! What fails, and what happens then:
//!
//! * Invalid frames, or another protocol: bytes are miscounted, which only affects what counts as activity.
//! * A length near 2^64: followed without overflow; the rest of the stream is payload.
//! * The stream ends in a frame: nothing, as no state is needed any more.

/// Longest frame header: two bytes, eight of length, four of mask.
const HEADER_BYTES: usize = 14;
/// A close frame with the code 1013, "try again later", as a server sends it.
pub(crate) const CLOSE_TRY_AGAIN: [u8; 4] = [0x88, 2, 0x03, 0xf5];
/// The same with the code 1012, "service restart".
pub(crate) const CLOSE_RESTART: [u8; 4] = [0x88, 2, 0x03, 0xf4];
/// Set in the second byte if a mask follows.
const MASKED: u8 = 0x80;
/// Set in the opcode of control frames.
const CONTROL: u8 = 0x08;

/// Scans one direction of a WebSocket.
#[derive(Debug, Default)]
pub(crate) struct FrameScanner {
    header: [u8; HEADER_BYTES],
    used: usize,
    /// Bytes of payload that have not come yet.
    payload: u64,
    control: bool,
}

impl FrameScanner {
    /// Scans the next bytes; true if they contain part of a message.
    pub(crate) fn scan(&mut self, mut bytes: &[u8]) -> bool {
        let mut active = false;
        while !bytes.is_empty() {
            if self.payload > 0 {
                let taken = bytes.len().min(usize::try_from(self.payload).unwrap_or(usize::MAX));
                self.payload -= taken as u64;
                active |= !self.control;
                bytes = &bytes[taken..];
            } else {
                active |= self.take_header_byte(bytes[0]);
                bytes = &bytes[1..];
            }
        }
        active
    }

    /// Whether the next byte begins a frame.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.used == 0 && self.payload == 0
    }

    /// True if this byte ends the header of a data frame.
    fn take_header_byte(&mut self, byte: u8) -> bool {
        self.header[self.used] = byte;
        self.used += 1;
        if self.used < 2 || self.used < self.header_length() {
            return false;
        }
        self.used = 0;
        self.payload = self.payload_length();
        self.control = self.header[0] & CONTROL != 0;
        !self.control
    }

    fn header_length(&self) -> usize {
        let mask = if self.header[1] & MASKED == 0 { 0 } else { 4 };
        2 + self.length_bytes() + mask
    }

    fn length_bytes(&self) -> usize {
        match self.header[1] & !MASKED {
            126 => 2,
            127 => 8,
            _ => 0,
        }
    }

    fn payload_length(&self) -> u64 {
        match self.length_bytes() {
            0 => u64::from(self.header[1] & !MASKED),
            n => self.header[2..2 + n].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(opcode: u8, masked: bool, payload: usize) -> Vec<u8> {
        let mask = if masked { MASKED } else { 0 };
        let mut bytes = vec![0x80 | opcode];
        match payload {
            0..126 => bytes.push(mask | u8::try_from(payload).unwrap()),
            126..65536 => {
                bytes.push(mask | 126);
                bytes.extend(u16::try_from(payload).unwrap().to_be_bytes());
            }
            _ => {
                bytes.push(mask | 127);
                bytes.extend((payload as u64).to_be_bytes());
            }
        }
        bytes.extend(if masked { &[1, 2, 3, 4][..] } else { &[] });
        bytes.extend(std::iter::repeat_n(0x81, payload));
        bytes
    }

    /// How many of the pieces contain part of a message.
    fn active(scanner: &mut FrameScanner, bytes: &[u8], piece: usize) -> usize {
        bytes.chunks(piece).filter(|part| scanner.scan(part)).count()
    }

    #[test]
    fn messages_of_every_length_are_seen_and_control_frames_are_not() {
        for masked in [false, true] {
            for payload in [0, 1, 125, 126, 65535, 65536, 70000] {
                for piece in [1, 3, 1 << 20] {
                    let mut scanner = FrameScanner::default();
                    for control in [0x8, 0x9, 0xa] {
                        assert_eq!(active(&mut scanner, &frame(control, masked, 100), piece), 0);
                    }
                    for data in [0x0, 0x1, 0x2] {
                        assert!(active(&mut scanner, &frame(data, masked, payload), piece) > 0);
                    }
                    assert_eq!(
                        active(&mut scanner, &frame(0x9, masked, 0), piece),
                        0,
                        "in step after {payload}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_huge_length_is_followed() {
        let mut scanner = FrameScanner::default();
        let mut bytes = vec![0x82, 127];
        bytes.extend([0xff; 8]);
        bytes.extend([0; 1000]);
        assert!(scanner.scan(&bytes));
    }
}
