//! What two proxies say to each other over their stream.
//!
//! A stream begins with [`HELLO`]. Then come frames: a byte that says which, four bytes of
//! the number of a TCP connection, and four bytes of a value, all big-endian; behind the head
//! of [`Frame::Data`] as many bytes as its value says.

/// What a stream begins with.
const HELLO: &[u8; 8] = b"airprox1";
const HEAD: usize = 9;
/// The most bytes that a frame of data brings.
pub const MAX_DATA: usize = 8 * 1024;
/// How many bytes of a TCP connection may be on their way, or wait at the other side until
/// its program takes them: twice what Airhook has under way at most.
pub const WINDOW: u32 = 128 * 1024;

/// One thing said. All but [`Ping`](Frame::Ping) name a TCP connection, by the number that
/// the side which accepted it chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A connection was accepted: the other side opens one, too. It has credit for a window.
    Open(u32),
    /// Bytes; never more than there is credit for.
    Data(u32, &'a [u8]),
    /// So many bytes more may be sent.
    Credit(u32, u32),
    /// No more bytes will come. Those of the other direction may.
    End(u32),
    /// The connection has failed, or could not be opened: nothing more comes, nor is taken.
    Reset(u32),
    /// Nothing, but it has to arrive.
    Ping,
}

/// What arrived is not what a proxy says.
#[derive(Debug)]
pub struct Broken;

impl Frame<'_> {
    /// Appends the frame to `out`.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let (kind, number, value, bytes): (u8, u32, u32, &[u8]) = match *self {
            Frame::Open(number) => (1, number, 0, &[]),
            Frame::Data(number, bytes) => (2, number, bytes.len() as u32, bytes),
            Frame::Credit(number, value) => (3, number, value, &[]),
            Frame::End(number) => (4, number, 0, &[]),
            Frame::Reset(number) => (5, number, 0, &[]),
            Frame::Ping => (6, 0, 0, &[]),
        };
        out.push(kind);
        out.extend_from_slice(&number.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
        out.extend_from_slice(bytes);
    }
}

/// Appends what a stream begins with.
pub fn emit_hello(out: &mut Vec<u8>) {
    out.extend_from_slice(HELLO);
}

/// Takes a stream apart, as it comes.
#[derive(Default)]
pub struct Parser {
    /// What makes no whole frame yet; never more than one of them.
    rest: Vec<u8>,
    greeted: bool,
}

impl Parser {
    /// Calls `take` with each frame that is whole now.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        mut take: impl FnMut(Frame<'_>) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        self.rest.extend_from_slice(bytes);
        let mut left = self.rest.as_slice();
        if !self.greeted {
            let length = left.len().min(HELLO.len());
            if left[..length] != HELLO[..length] {
                return Err(Broken);
            }
            if length < HELLO.len() {
                return Ok(());
            }
            left = &left[length..];
            self.greeted = true;
        }
        while let Some((frame, behind)) = parse(left)? {
            take(frame)?;
            left = behind;
        }
        let used = self.rest.len() - left.len();
        self.rest.drain(..used);
        Ok(())
    }
}

/// The first frame and what is behind it; none when it is not whole.
fn parse(bytes: &[u8]) -> Result<Option<(Frame<'_>, &[u8])>, Broken> {
    let Some((&[kind, n0, n1, n2, n3, v0, v1, v2, v3], rest)) = bytes.split_first_chunk::<HEAD>() else {
        return Ok(None);
    };
    let (number, value) = (u32::from_be_bytes([n0, n1, n2, n3]), u32::from_be_bytes([v0, v1, v2, v3]));
    let frame = match (kind, value) {
        (1, 0) => Frame::Open(number),
        (2, 1..) if value as usize <= MAX_DATA => {
            let Some((bytes, rest)) = rest.split_at_checked(value as usize) else {
                return Ok(None);
            };
            return Ok(Some((Frame::Data(number, bytes), rest)));
        }
        (3, 1..=WINDOW) => Frame::Credit(number, value),
        (4, 0) => Frame::End(number),
        (5, 0) => Frame::Reset(number),
        (6, 0) if number == 0 => Frame::Ping,
        _ => return Err(Broken),
    };
    Ok(Some((frame, rest)))
}
