//! Whatever a server sends: the reader of messages, the start-up and the answers must neither panic nor keep more than they may.
//! The first byte says in what pieces it comes, and the second whether the session has begun.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use replbench::pg::wire::{Answer, Input, Keeps, StartUp};
use replbench::pg::{Endpoint, Password};

fuzz_target!(|data: &[u8]| {
    let [size, kind, stream @ ..] = data else {
        return;
    };
    let password = Some(Password::new("secret"));
    let endpoint = Endpoint::on_loopback("primary", 5432, "replbench", password);
    let mut out = BytesMut::new();
    let start_up = StartUp::begin(&endpoint, "fuzz", None, &mut out).expect("it has no NUL");
    let mut start_up = (kind % 2 == 0).then_some(start_up);
    let mut answer = Answer::default();
    answer.keeps = [Keeps::LastRow, Keeps::Rows, Keeps::Notices][usize::from(kind / 2 % 3)];
    let mut input = Input::default();
    for mut piece in stream.chunks(usize::from(*size).max(1)) {
        while !piece.is_empty() {
            input.read_from(&mut piece).expect("memory can be read");
            loop {
                let message = match input.message() {
                    Ok(Some(message)) => message,
                    Ok(None) => break,
                    Err(_) => return,
                };
                let taken = match &mut start_up {
                    Some(start_up) => start_up.take(message, &mut out).map_err(drop),
                    None => answer.take(message).map(|ready| ready.is_some()).map_err(drop),
                };
                match taken {
                    Ok(true) => start_up = None,
                    Ok(false) => {}
                    Err(()) => return,
                }
                answer.kept::<4>().for_each(drop);
            }
        }
    }
});
