//! Lines of text over Airhook, each a message: what the C library's program of that name does.

#[path = "../airhook/mod.rs"]
mod airhook;

use std::io::{self, BufRead, Read, Write, stderr, stdin, stdout};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use khashmir::Config;
use khashmir::airhook::{Event, Messages, SendError};
use mio::{Events, Poll, Token, Waker};

use airhook::{Link, now, resolve, watch_signals};

const SOCKET: Token = Token(0);
const INPUT: Token = Token(1);
const SIGNAL: Token = Token(2);

/// The longest message: what of a line is longer goes into further ones.
const LONGEST: u64 = 255;
/// Pieces of input that are read ahead.
const AHEAD: usize = 64;
/// After the last confirmation: what the other side may still have to learn from us. And after
/// the last message that came: there may be more.
const LINGER: Duration = Duration::from_millis(500);

/// Sends lines from standard input as Airhook messages, and prints those that come.
///
/// Each line is a message with its line feed; one of more than 255 bytes goes as several,
/// which are printed as one again if nothing comes between them. Messages arrive once each,
/// but after losses not always in order.
///
/// At the end of the input it waits until the peer has confirmed everything, and has sent
/// nothing for half a second. The exit status is 0 if it has confirmed everything, 1 if something
/// was lost or is still unconfirmed, and 2 if the program could not start. SIGINT and SIGTERM
/// end it at once, with the same meaning.
#[derive(Parser)]
#[command(name = "aircat", version)]
struct Options {
    /// The UDP port to use here; 0 for any.
    #[arg(value_name = "LPORT")]
    local_port: u16,

    /// The peer: an address, or a name for one.
    #[arg(value_name = "RHOST")]
    host: String,

    /// The peer's UDP port.
    #[arg(value_name = "RPORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,

    /// Use IPv4 only.
    #[arg(short = '4', conflicts_with = "ipv6")]
    ipv4: bool,

    /// Use IPv6 only.
    #[arg(short = '6')]
    ipv6: bool,

    /// How long to wait at most after the end of the input.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    wait: u64,

    /// At the end, print on standard error what was sent and received.
    #[arg(long)]
    stats: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let result = Cat::start(&options).and_then(|mut cat| {
        let result = cat.run();
        if options.stats {
            cat.print_stats();
        }
        result
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(stderr(), "aircat: {}", failure.text);
            ExitCode::from(failure.status)
        }
    }
}

/// Why the program does not end well.
struct Failure {
    status: u8,
    text: String,
}

/// What did not work before anything could be sent.
fn cannot_start(what: impl ToString) -> Failure {
    Failure { status: 2, text: what.to_string() }
}

struct Cat {
    poll: Poll,
    link: Link<Messages>,
    peer: SocketAddr,
    input: Receiver<Vec<u8>>,
    /// A piece of input that there was no room for.
    piece: Option<Vec<u8>>,
    /// The input has ended; then, how long to wait at most.
    wait: Duration,
    until: Option<Instant>,
    counts: Counts,
    /// When the last message came.
    heard: Option<Instant>,
    /// The last message printed was the beginning of a longer line.
    open_line: bool,
    /// It must outlive the thread that uses it: what it has said would be lost with it.
    _waker: Arc<Waker>,
    _signals: Box<dyn std::any::Any>,
}

#[derive(Default)]
struct Counts {
    sent: u64,
    confirmed: u64,
    lost: u64,
    received: u64,
    round_trip: Option<Duration>,
    connected: bool,
}

impl Cat {
    fn start(options: &Options) -> Result<Cat, Failure> {
        let family =
            |addr: &SocketAddr| (!options.ipv4 || addr.is_ipv4()) && (!options.ipv6 || addr.is_ipv6());
        let peer = resolve(&options.host, options.port, family).map_err(cannot_start)?;
        let local = match peer {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, options.local_port)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, options.local_port)),
        };
        let poll = Poll::new().map_err(cannot_start)?;
        let signals = watch_signals(poll.registry(), SIGNAL).map_err(cannot_start)?;
        // Either side may be started first: the other one is asked for some minutes.
        let config = Config { max_openings: u8::MAX, ..Config::default() };
        let mut link = Link::bind(local, config, poll.registry(), SOCKET)
            .map_err(|e| cannot_start(format!("{local}: {e}")))?;
        link.endpoint.connect(link.now(), peer);
        let (sender, input) = mpsc::sync_channel(AHEAD);
        let waker = Arc::new(Waker::new(poll.registry(), INPUT).map_err(cannot_start)?);
        let _waker = Arc::clone(&waker);
        thread::spawn(move || {
            read_input(&sender, &waker);
            // First it ends, then the program is told.
            drop(sender);
            waker.wake()
        });
        Ok(Cat {
            poll,
            link,
            peer,
            input,
            piece: None,
            wait: Duration::from_secs(options.wait),
            until: None,
            counts: Counts::default(),
            heard: None,
            open_line: false,
            _waker,
            _signals: Box::new(signals),
        })
    }

    fn run(&mut self) -> Result<(), Failure> {
        let failure = |e: io::Error| Failure { status: 1, text: e.to_string() };
        let mut events = Events::with_capacity(16);
        let mut linger = None;
        loop {
            self.send_input();
            self.link.transmit(self.poll.registry());
            if self.is_done() {
                linger = linger.or(Some(now() + LINGER));
            }
            let more = self.heard.map(|at| at + LINGER).filter(|&at| at > now());
            let ends =
                linger.map(|at| more.map_or(at, |more| more.max(at))).into_iter().chain(self.until).min();
            let ends = ends.map(|at| at.saturating_duration_since(now()));
            let settled = linger.is_some() && more.is_none() && !self.link.is_due_within(LINGER);
            if settled || ends == Some(Duration::ZERO) {
                return self.verdict();
            }
            let timeout = self.link.timeout().into_iter().chain(ends).min();
            match self.poll.poll(&mut events, timeout) {
                Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(failure(e)),
                _ => {}
            }
            for event in &events {
                match event.token() {
                    SOCKET => self.link.handle(event, self.poll.registry()),
                    SIGNAL => return self.verdict(),
                    _ => {}
                }
            }
            self.link.receive(Some(self.peer));
            self.link.endpoint.handle_timeout(self.link.now());
            // Nobody reads what it prints.
            self.take_events().map_err(failure)?;
        }
    }

    /// Sends what there is of the input, and room for.
    fn send_input(&mut self) {
        while self.until.is_none() {
            let piece = match self.piece.take().map_or_else(|| self.input.try_recv(), Ok) {
                Ok(piece) => piece,
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    self.until = Some(now() + self.wait);
                    return;
                }
            };
            let ticket = Some(self.counts.sent);
            match self.link.endpoint.send(self.link.now(), self.peer, &piece, ticket) {
                Ok(()) => self.counts.sent += 1,
                Err(SendError::Full { .. }) => {
                    self.piece = Some(piece);
                    return;
                }
                // It has a length, and there is but one connection.
                Err(e) => log::warn!("{e}"),
            }
        }
    }

    fn take_events(&mut self) -> io::Result<()> {
        let mut out = stdout().lock();
        while let Some(event) = self.link.endpoint.poll_event() {
            match event {
                Event::Connected(_) => {
                    log::info!("{} is there", self.peer);
                    self.counts.connected = true;
                }
                Event::Received(_, message) => {
                    self.counts.received += 1;
                    self.heard = Some(now());
                    out.write_all(&message)?;
                    self.open_line = message.last() != Some(&b'\n');
                    if self.open_line && (message.len() as u64) < LONGEST {
                        // Not from a program of this kind, which ends lines.
                        out.write_all(b"\n")?;
                        self.open_line = false;
                    }
                }
                Event::Confirmed(..) => self.counts.confirmed += 1,
                Event::Lost(..) => self.counts.lost += 1,
                Event::Reset(_) => log::info!("{} has started afresh, or was silent for long", self.peer),
                _ => {}
            }
        }
        // Forgotten connections know nothing of it any more.
        self.counts.round_trip = self.link.endpoint.round_trip(self.peer).or(self.counts.round_trip);
        out.flush()
    }

    /// Whether all of the input has been settled.
    fn is_done(&self) -> bool {
        self.until.is_some() && self.counts.confirmed + self.counts.lost == self.counts.sent
    }

    /// How it has gone.
    fn verdict(&mut self) -> Result<(), Failure> {
        let Counts { sent, confirmed, lost, connected, .. } = self.counts;
        let text = if sent == confirmed {
            return Ok(());
        } else if !connected {
            format!("{} never answered", self.peer)
        } else if lost > 0 {
            format!("{lost} of {sent} messages may be lost: {} started afresh, or was silent", self.peer)
        } else {
            format!("{} of {sent} messages are not confirmed", sent - confirmed)
        };
        Err(Failure { status: 1, text })
    }

    fn print_stats(&self) {
        let traffic = self.link.endpoint.traffic();
        let Counts { sent, confirmed, lost, received, round_trip, .. } = self.counts;
        let round_trip = match round_trip {
            Some(time) => format!("{:.1} ms", time.as_secs_f64() * 1000.0),
            None => "not measured".into(),
        };
        let _ = writeln!(
            stderr(),
            "packets: {} sent, {} received, {} dropped\nbytes: {} sent, {} received\n\
             messages: {sent} sent, {confirmed} confirmed, {lost} lost, {received} received\n\
             round trip: {round_trip}",
            traffic.packets_out,
            traffic.packets_in,
            traffic.dropped,
            traffic.bytes_out,
            traffic.bytes_in,
        );
    }
}

/// Reads standard input, as far ahead as the channel holds, in pieces that are messages:
/// lines, or parts of longer ones.
fn read_input(pieces: &SyncSender<Vec<u8>>, waker: &Waker) {
    let mut input = stdin().lock();
    loop {
        let mut piece = Vec::new();
        // Input that cannot be read has ended, as far as this program goes.
        if !(&mut input).take(LONGEST).read_until(b'\n', &mut piece).is_ok_and(|length| length > 0) {
            break;
        }
        if piece.last() != Some(&b'\n') && (piece.len() as u64) < LONGEST {
            piece.push(b'\n');
        }
        if pieces.send(piece).is_err() {
            return;
        }
        let _ = waker.wake();
    }
}
