//! Faults in profiles.

use super::{GOOD, check};

#[test]
fn a_bandwidth_of_nothing_is_refused_beside_a_delay_too() {
    let fault = "[[fault]]\nkind = \"slow-network\"\ntarget = \"s1\"\nat = \"1 s\"\nfor = \"1 s\"\n\
                 delay = \"5 ms\"\nbandwidth = \"0 B\"\n";
    check(
        GOOD.to_owned() + fault,
        &["p.toml:9:13", "more than 0 B a second"],
    );
}
