//! Realistic texts from a seeded generator: the same arrival has the same row in every mode and on every machine.

use std::fmt::Write as _;

use rand::{Rng, RngExt};

const GIVEN: [&str; 32] = [
    "Amara", "Anna", "Aryan", "Chen", "Clara", "Daniel", "Diego", "Elena", "Emeka", "Fatima",
    "Femi", "Hana", "Hugo", "Ingrid", "Ivan", "Jonas", "Kenji", "Laila", "Leo", "Lucía", "Marta",
    "Mateo", "Mei", "Nadia", "Noah", "Olu", "Priya", "Rafael", "Sofia", "Tariq", "Yuki", "Zoë",
];
const FAMILY: [&str; 32] = [
    "Abara",
    "Ahmed",
    "Andersson",
    "Bauer",
    "Costa",
    "Dubois",
    "Eze",
    "Fernández",
    "Fischer",
    "Garcia",
    "Gupta",
    "Haddad",
    "Hansen",
    "Ivanova",
    "Jansen",
    "Kim",
    "Kovač",
    "Lopes",
    "Martin",
    "Meyer",
    "Mwangi",
    "Nakamura",
    "Novak",
    "Okafor",
    "Patel",
    "Rossi",
    "Sato",
    "Silva",
    "Smith",
    "Tanaka",
    "Wang",
    "Yilmaz",
];
const ADJECTIVE: [&str; 16] = [
    "Compact",
    "Cordless",
    "Ergonomic",
    "Foldable",
    "Handmade",
    "Insulated",
    "Lightweight",
    "Magnetic",
    "Organic",
    "Portable",
    "Rechargeable",
    "Rugged",
    "Silent",
    "Solar",
    "Vintage",
    "Waterproof",
];
const THING: [&str; 16] = [
    "Backpack",
    "Bicycle Lamp",
    "Chair",
    "Coffee Grinder",
    "Desk Lamp",
    "Drill",
    "Headphones",
    "Kettle",
    "Keyboard",
    "Lantern",
    "Monitor",
    "Notebook",
    "Speaker",
    "Tent",
    "Tripod",
    "Water Bottle",
];

/// Writes the name of a product, such as "Rugged Lantern".
pub(super) fn words(rng: &mut impl Rng, text: &mut String) {
    let (adjective, thing) = (choose(rng, &ADJECTIVE), choose(rng, &THING));
    text.extend([adjective, " ", thing]);
}

/// Writes a person's name.
pub(super) fn person(rng: &mut impl Rng, text: &mut String) {
    let (given, family) = (choose(rng, &GIVEN), choose(rng, &FAMILY));
    text.extend([given, " ", family]);
}

/// Writes an e-mail address, in ASCII.
pub(super) fn email(rng: &mut impl Rng, text: &mut String) {
    let (given, family) = (choose(rng, &GIVEN), choose(rng, &FAMILY));
    let number: u32 = rng.random_range(1..10_000_000);
    text.extend(ascii_lower(given));
    text.push('.');
    text.extend(ascii_lower(family));
    write!(text, "{number}@example.com").expect("a string takes everything");
}

fn choose<'a>(rng: &mut impl Rng, words: &[&'a str]) -> &'a str {
    words[rng.random_range(0..words.len())]
}

/// Adds words until a text has at least `width` bytes, and cuts it to `width` bytes if `width` is above 24.
pub(super) fn fill(rng: &mut impl Rng, text: &mut String, width: usize) {
    while text.len() < width {
        text.push(' ');
        text.push_str(choose(rng, &ADJECTIVE));
    }
    if text.len() > width && width > 24 {
        let mut end = width;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
}

/// A name as an e-mail address contains it: only its ASCII letters, in lower case.
fn ascii_lower(name: &str) -> impl Iterator<Item = char> {
    name.chars()
        .filter(char::is_ascii_alphabetic)
        .map(|letter| letter.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;

    #[test]
    fn addresses_are_ascii() {
        for seed in 0..200 {
            let mut address = String::new();
            email(&mut Xoshiro256PlusPlus::seed_from_u64(seed), &mut address);
            assert!(address.is_ascii() && address.contains('@'), "{address}");
        }
    }
}
