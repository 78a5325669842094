//! TCP connections over Airhook, between two of this program.

#[path = "../airhook/mod.rs"]
mod airhook;
mod flow;
mod frame;
mod proxy;

use std::io::{self, Write, stderr};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;

use clap::{ArgGroup, Parser};
use khashmir::Config;

use proxy::{Proxy, Role};

/// Carries TCP connections over one Airhook connection, to another airproxy.
///
/// One is told where to accept TCP connections and where the other one is:
///
///     airproxy --listen-tcp 127.0.0.1:8080 --remote example.net:4711
///
/// the other one, where connections are to go and its UDP port:
///
///     airproxy --to-tcp 127.0.0.1:80 --listen 4711
///
/// Bytes, the end of each direction and resets are passed on; a program that reads slowly
/// slows down only its own connection. When the other proxy is restarted, or not heard for
/// a minute, all connections are reset; new ones work when it is back. (That it was restarted
/// shows only if it has the same UDP port again, so give both one by --listen.) Nothing is
/// encrypted, and whoever can send to the UDP port can connect: --from allows one address only.
///
/// At the start it prints the addresses in use. The exit status is 0 after SIGINT
/// or SIGTERM, and 2 when it cannot start.
#[derive(Parser)]
#[command(name = "airproxy", version, verbatim_doc_comment)]
#[command(group = ArgGroup::new("role").required(true).args(["listen_tcp", "to_tcp"]))]
struct Options {
    /// Accept TCP connections here.
    #[arg(long, value_name = "HOST:PORT", requires = "remote", value_parser = host_and_port)]
    listen_tcp: Option<(String, u16)>,

    /// The UDP address of the airproxy that opens the connections.
    #[arg(long, value_name = "HOST:PORT", requires = "listen_tcp", conflicts_with = "to_tcp",
          value_parser = host_and_known_port)]
    remote: Option<(String, u16)>,

    /// Open a TCP connection to this address for each that the other side accepts.
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_known_port)]
    to_tcp: Option<(String, u16)>,

    /// Take connections from the airproxy at this UDP address only.
    #[arg(long, value_name = "HOST:PORT", requires = "to_tcp", conflicts_with = "listen_tcp",
          value_parser = host_and_known_port)]
    from: Option<(String, u16)>,

    /// The UDP port, on all addresses of this machine. Default: any free one.
    #[arg(long, value_name = "PORT", conflicts_with = "bind")]
    listen: Option<u16>,

    /// The UDP port, on one address of this machine.
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    bind: Option<(String, u16)>,

    /// How many TCP connections there may be at once.
    #[arg(long, value_name = "NUMBER", default_value_t = 256,
          value_parser = clap::value_parser!(u32).range(1..=60_000))]
    max_connections: u32,
}

fn main() -> ExitCode {
    let options = Options::parse();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let mut proxy = match start(&options) {
        Ok(proxy) => proxy,
        Err(why) => {
            let _ = writeln!(stderr(), "airproxy: {why}");
            return ExitCode::from(2);
        }
    };
    match proxy.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            let _ = writeln!(stderr(), "airproxy: {e}");
            ExitCode::from(1)
        }
    }
}

fn start(options: &Options) -> Result<Proxy, String> {
    let find = |name: &Option<(String, u16)>| match name {
        Some((host, port)) => airhook::resolve(host, *port, |_| true).map(Some),
        None => Ok(None),
    };
    let peer = find(if options.remote.is_some() { &options.remote } else { &options.from })?;
    let port = options.listen.unwrap_or(0);
    let bind = match (find(&options.bind)?, peer) {
        (Some(addr), Some(remote)) if options.remote.is_some() && addr.is_ipv4() != remote.is_ipv4() => {
            return Err(format!("{addr} and {remote} are not of one family"));
        }
        (Some(addr), _) => vec![addr],
        (None, Some(SocketAddr::V4(_))) => vec![(Ipv4Addr::UNSPECIFIED, port).into()],
        (None, Some(SocketAddr::V6(_))) => vec![(Ipv6Addr::UNSPECIFIED, port).into()],
        // The first is for both families, where there are two.
        (None, None) => vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()],
    };
    let role = match (find(&options.listen_tcp)?, peer, find(&options.to_tcp)?) {
        (Some(tcp), Some(remote), _) => Role::Accepts { tcp, remote },
        (_, from, Some(tcp)) => Role::Connects { tcp, from },
        _ => return Err("either --listen-tcp or --to-tcp is wanted".into()),
    };
    let mut last = io::Error::other("no address");
    for addr in bind {
        match Proxy::start(role, addr, options.max_connections as usize, Config::default()) {
            Ok(proxy) => {
                // For those who let the system choose ports.
                let mut out = io::stdout().lock();
                let text = proxy.addresses().map_err(|e| e.to_string())?;
                let _ = writeln!(out, "{text}").and_then(|()| out.flush());
                return Ok(proxy);
            }
            Err(e) => last = io::Error::new(e.kind(), format!("{addr}: {e}")),
        }
    }
    Err(last.to_string())
}

/// `HOST:PORT`, with an IPv6 address in brackets.
fn host_and_port(text: &str) -> Result<(String, u16), String> {
    let (host, port) = text.rsplit_once(':').ok_or("a host, a colon and a port are wanted")?;
    let port = port.parse().map_err(|_| format!("{port:?} is no port from 0 to 65535"))?;
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return Err("an IPv6 address goes in brackets: [::1]:4711".into());
    }
    Ok((host.to_owned(), port))
}

/// The same, for an address to speak to.
fn host_and_known_port(text: &str) -> Result<(String, u16), String> {
    match host_and_port(text)? {
        (_, 0) => Err("port 0 is nobody's".into()),
        found => Ok(found),
    }
}
