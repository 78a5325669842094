//! What nodes of our own kind say beside what those of 2003 understand: ages, offers, wants.

use khashmir::config::MAX_NETSTRING;
use khashmir::krpc::message::{self, MAX_OFFERED, MAX_TID, Message, Method, Offer, Rejected, Response};
use khashmir::krpc::netstring;
use khashmir::{Contact, Id};
use proptest::collection::vec;
use proptest::prelude::*;

const TID: &[u8] = b"tttttttttttttttttttt";

fn me() -> Contact {
    Contact { id: Id::new(*b"iiiiiiiiiiiiiiiiiiii"), addr: ([192, 0, 2, 1], 4711).into() }
}

/// A request, without its frame.
fn written(method: &Method<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    message::request(&mut out, TID, &me(), method).expect("short enough");
    let taken = netstring::take(&out, MAX_NETSTRING).expect("a netstring").expect("a whole one");
    out[taken.body].to_vec()
}

fn method(bytes: &[u8]) -> Result<Method<'_>, String> {
    match Message::parse(bytes) {
        Ok(Message::Request(request)) => Ok(request.method),
        Err(Rejected::Answer { error, .. }) => Err(error.to_string()),
        other => panic!("{other:?}"),
    }
}

fn answer(wants: Option<&[u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    message::response_nodes_and_wants(&mut out, TID, &me(), &[me()], wants);
    let taken = netstring::take(&out, MAX_NETSTRING).expect("a netstring").expect("a whole one");
    out[taken.body].to_vec()
}

fn response(bytes: &[u8]) -> Response<'_> {
    match Message::parse(bytes) {
        Ok(Message::Response(response)) => response,
        other => panic!("not a response: {other:?}"),
    }
}

proptest! {
    #[test]
    fn offers_come_back(
        key in any::<[u8; 20]>(), values in vec((any::<[u8; 20]>(), any::<u32>()), 1..=MAX_OFFERED),
    ) {
        let mut bytes = Vec::new();
        values.iter().for_each(|(digest, age)| Offer::add(&mut bytes, &Id::new(*digest), *age));
        let offer = Offer::new(&bytes).expect("an offer");
        let sent = Method::OfferValues { key: Id::new(key), offer };
        let request = written(&sent);
        prop_assert!(request.len() < 1000, "it fits into an opening");
        prop_assert_eq!(method(&request), Ok(sent));
        prop_assert_eq!(offer.values().count(), values.len());
        for (offered, (digest, age)) in offer.values().zip(&values) {
            let (least, greatest) = offered.digests();
            prop_assert_eq!(offered.age, *age);
            prop_assert!((least..=greatest).contains(&Id::new(*digest)));
        }
    }

    #[test]
    fn values_handed_on_come_back(
        key in any::<[u8; 20]>(), value in vec(any::<u8>(), 0..2000), age in any::<u32>(),
    ) {
        let sent = Method::HandOn { key: Id::new(key), value: &value, age, life: None };
        let request = written(&sent);
        prop_assert_eq!(method(&request), Ok(sent));
    }

    #[test]
    fn wants_are_places_of_what_was_offered(wants in vec(any::<u8>(), 0..300), offered in 0usize..80) {
        let bytes = answer(Some(&wants));
        let wanted = response(&bytes).wants(offered).expect("there are some");
        for place in 0..64 {
            let named = wants.iter().take(MAX_OFFERED).any(|&want| want == place);
            prop_assert_eq!(wanted >> place & 1 == 1, named && usize::from(place) < offered);
        }
    }
}

/// For a peer of 2003 the arguments are those that it knows, and the rest stands beside.
#[test]
fn extensions_stand_where_peers_of_2003_do_not_look() {
    let mut bytes = Vec::new();
    Offer::add(&mut bytes, &Id::new([b'd'; 20]), 0x6161_6161);
    let key = Id::new([b'k'; 20]);
    let shown = |method: &Method<'_>| written(method).escape_ascii().to_string();
    let sender = "6:senderd4:host9:192.0.2.12:id20:iiiiiiiiiiiiiiiiiiii4:porti4711ee";
    let end = "3:tid20:tttttttttttttttttttt3:typ3:reqe";
    let offer = Offer::new(&bytes).expect("an offer");
    assert_eq!(
        shown(&Method::OfferValues { key, offer }),
        format!("d3:argd{sender}6:target20:{}e5:offer12:ddddddddaaaa3:req9:find_node{end}", "k".repeat(20))
    );
    assert_eq!(
        shown(&Method::HandOn { key, value: b"v", age: 7, life: None }),
        format!("d3:agei7e3:argd3:key20:{}{sender}5:value1:ve3:req11:store_value{end}", "k".repeat(20))
    );
    let rsp = "3:tid20:tttttttttttttttttttt3:typ3:rspe";
    let node = "d4:host9:192.0.2.12:id20:iiiiiiiiiiiiiiiiiiii4:porti4711ee";
    let said = answer(Some(b"0")).escape_ascii().to_string();
    assert_eq!(said, format!("d3:rspd5:nodesl{node}e{sender}5:wants1:0e{rsp}"));
    // Without an offer it is as before.
    assert_eq!(answer(None).escape_ascii().to_string(), format!("d3:rspd5:nodesl{node}e{sender}e{rsp}"));
    let (none, empty) = (answer(None), answer(Some(&[])));
    assert_eq!(response(&none).wants(64), None);
    assert_eq!(response(&empty).wants(64), Some(0), "it understands, and wants nothing");
}

/// An age that cannot be read must not make a value young; whatever else is odd about
/// offers and wants, the request or answer around it counts.
#[test]
fn what_is_malformed_is_refused_or_passed_over() {
    let request = |age: &str, offer: &str, name: &str, argument: &str| {
        let sender = "6:senderd2:id20:iiiiiiiiiiiiiiiiiiiie";
        let (before, after) = if name == "find_node" { ("", argument) } else { (argument, "5:value1:v") };
        format!("d{age}3:argd{before}{sender}{after}e{offer}3:req{}:{name}3:tid1:t3:typ3:reqe", name.len())
    };
    let key = "3:key20:kkkkkkkkkkkkkkkkkkkk";
    for age in ["i-1e", "i4294967296e", "i9223372036854775807e", "0:", "2:12", "le", "de"] {
        let request = request(&format!("3:age{age}"), "", "store_value", key);
        assert_eq!(method(request.as_bytes()), Err("`age`: a number of seconds is needed".into()), "{age}");
    }
    let plain = request("3:agei0e", "", "store_value", key);
    assert!(matches!(method(plain.as_bytes()), Ok(Method::HandOn { age: 0, .. })));
    let target = "6:target20:kkkkkkkkkkkkkkkkkkkk";
    let long = "x".repeat(12 * (MAX_OFFERED + 1));
    let (odd, long) = ("11:xxxxxxxxxxx", format!("{}:{long}", long.len()));
    for offer in ["0:", "1:x", odd, "13:xxxxxxxxxxxxx", &long, "i1e", "le", "de"] {
        let request = request("", &format!("5:offer{offer}"), "find_node", target);
        assert!(matches!(method(request.as_bytes()), Ok(Method::FindNode { .. })), "{offer}");
    }
    for wants in ["i1e", "le", "d1:ai1ee"] {
        let bytes = format!(
            "d3:rspd5:nodesle6:senderd2:id20:iiiiiiiiiiiiiiiiiiiie5:wants{wants}e3:tid1:t3:typ3:rspe"
        );
        let response = response(bytes.as_bytes());
        assert!(response.wants(64).is_none() && response.nodes().is_some(), "{wants}");
    }
}

#[test]
fn the_largest_value_fits_beside_its_age() {
    let (value, tid) = (vec![b'v'; 99_000], [b't'; MAX_TID]);
    let sent = Method::HandOn { key: Id::new([0xff; 20]), value: &value, age: u32::MAX, life: None };
    let mut out = Vec::new();
    assert_eq!(message::request(&mut out, &tid, &me(), &sent), Ok(()));
    assert!(out.len() <= MAX_NETSTRING);
}
