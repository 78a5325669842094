//! One TCP connection, at one of its two ends.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use mio::net::TcpStream;

use crate::frame::{Broken, WINDOW};

pub struct Flow {
    pub tcp: TcpStream,
    /// The proxy at the other side, and the number of the connection between the two.
    pub peer: SocketAddr,
    pub number: u32,
    /// It is not known yet whether somebody takes the connection.
    connecting: bool,

    // From TCP to the other side
    /// So many bytes may be sent.
    credit: u32,
    readable: bool,
    /// Nothing more will be read.
    ended: bool,
    /// It stands in line to read.
    pub lined_up: bool,

    // From the other side to TCP
    incoming: VecDeque<u8>,
    writable: bool,
    /// The other side has said that nothing more comes.
    last: bool,
    /// TCP has been told so.
    shut: bool,
    /// What was written, and the other side has no new credit for.
    written: u32,
}

impl Flow {
    /// A connection that was accepted, or one that is being made.
    pub fn new(tcp: TcpStream, peer: SocketAddr, number: u32, connecting: bool) -> Flow {
        // Small pieces are not held back: the way is long enough.
        let _ = tcp.set_nodelay(true);
        // Whatever ends it before its end, be it the end of this process: its program is to
        // see that it failed.
        let _ = socket2::SockRef::from(&tcp).set_linger(Some(Duration::ZERO));
        Flow {
            tcp,
            peer,
            number,
            connecting,
            credit: WINDOW,
            readable: false,
            ended: false,
            lined_up: false,
            incoming: VecDeque::new(),
            writable: false,
            last: false,
            shut: false,
            written: 0,
        }
    }

    /// Mio says something about the connection.
    pub fn handle(&mut self, event: &mio::event::Event) -> io::Result<()> {
        if event.is_error()
            && let Some(error) = self.tcp.take_error()?
        {
            return Err(error);
        }
        self.readable |= event.is_readable() || event.is_read_closed();
        self.writable |= event.is_writable();
        if self.connecting && event.is_writable() {
            match self.tcp.peer_addr() {
                Ok(_) => self.connecting = false,
                Err(e) if e.kind() == ErrorKind::NotConnected => self.writable = false,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Whether there may be something to read, and it may be sent.
    pub fn wants_to_read(&self) -> bool {
        self.readable && !self.connecting && !self.ended && self.credit > 0
    }

    /// Reads what may be sent now into `buffer`: how much; `None` when there is nothing, and
    /// 0 at the end.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let most = buffer.len().min(self.credit as usize);
        loop {
            match self.tcp.read(&mut buffer[..most]) {
                Ok(0) => {
                    self.ended = true;
                    return Ok(Some(0));
                }
                Ok(length) => {
                    self.credit -= length as u32;
                    return Ok(Some(length));
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    self.readable = false;
                    return Ok(None);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// More may be sent.
    pub fn add_credit(&mut self, more: u32) -> Result<(), Broken> {
        self.credit = self.credit.checked_add(more).filter(|&credit| credit <= WINDOW).ok_or(Broken)?;
        Ok(())
    }

    /// The other side has sent something.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        // What was written and not credited anew is not to be sent again yet.
        if self.last || self.incoming.len() + self.written as usize + bytes.len() > WINDOW as usize {
            return Err(Broken);
        }
        self.incoming.extend(bytes);
        Ok(())
    }

    /// The other side has sent its last.
    pub fn take_end(&mut self) -> Result<(), Broken> {
        if std::mem::replace(&mut self.last, true) { Err(Broken) } else { Ok(()) }
    }

    /// Writes what TCP takes now, and ends its direction after the last byte. How much new
    /// credit the other side is to get, if any.
    pub fn write(&mut self) -> io::Result<Option<u32>> {
        while self.writable && !self.connecting && !self.incoming.is_empty() {
            match self.tcp.write(self.incoming.as_slices().0) {
                Ok(length) => {
                    self.incoming.drain(..length);
                    self.written += length as u32;
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        if self.incoming.is_empty() {
            // An idle connection holds no room.
            self.incoming.shrink_to(0);
            if self.last && !self.shut && !self.connecting {
                self.tcp.shutdown(Shutdown::Write)?;
                self.shut = true;
            }
        }
        // Not for every few bytes, and not when no more will come.
        let due = self.written >= WINDOW / 4 && !self.last;
        Ok(due.then(|| std::mem::take(&mut self.written)))
    }

    /// Whether both directions have ended, and all has been handed on.
    pub fn is_done(&self) -> bool {
        self.ended && self.shut
    }

    /// Closes a connection that has come to its end. (If it is just dropped, it has failed.)
    pub fn close(self) {
        let _ = socket2::SockRef::from(&self.tcp).set_linger(None);
    }
}
