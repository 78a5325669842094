//! Many datagrams by one call of the system.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;

use mio::net::UdpSocket;
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};

/// What is known of a socket that is set up for it.
#[derive(Debug)]
pub(super) struct Offload(UdpSocketState);

impl Offload {
    /// Sets a socket up; None when the system does not let us.
    pub fn new(udp: &UdpSocket) -> Option<Self> {
        match UdpSocketState::new(udp.into()) {
            Ok(state) if state.max_gso_segments() > 1 || state.gro_segments() > 1 => Some(Offload(state)),
            Ok(_) => None,
            Err(e) => {
                log::info!("one datagram at a time: {e}");
                None
            }
        }
    }

    /// How many datagrams one call may send. One from when on the system has refused to: not every network
    /// interface can, and there is no asking before.
    pub fn segments(&self) -> usize {
        self.0.max_gso_segments()
    }

    /// Sends datagrams of `size` bytes each, the last of which may be shorter; all or none.
    pub fn send(&self, udp: &UdpSocket, to: SocketAddr, datagrams: &[u8], size: usize) -> io::Result<()> {
        let transmit = Transmit {
            destination: to,
            ecn: None,
            contents: datagrams,
            segment_size: Some(size),
            src_ip: None,
        };
        udp.try_io(|| self.0.try_send(udp.into(), &transmit))
    }

    /// Receives datagrams of one sender and one size, but that the last may be shorter: how many bytes, the
    /// size, and the sender.
    pub fn receive(&self, udp: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, usize, SocketAddr)> {
        let mut meta = [RecvMeta::default()];
        udp.try_io(|| self.0.recv(udp.into(), &mut [IoSliceMut::new(buffer)], &mut meta))?;
        let [RecvMeta { len, stride, addr, .. }] = meta;
        Ok((len, stride, addr))
    }
}
