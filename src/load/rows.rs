//! Realistic rows from a seeded generator: the same arrival has the same row in every mode and on every machine.

use rand::{Rng, RngExt};
use rust_decimal::Decimal;

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
    "Desk",
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

/// A row for the table of products.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    pub name: String,
    pub price: Decimal,
    pub stock: i32,
}

/// A row for the table of users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub email: String,
}

/// A product whose name is filled to `width` bytes with words of its description.
pub fn product(rng: &mut impl Rng, width: usize) -> Product {
    let mut name = String::with_capacity(width + 16);
    name.push_str(choose(rng, &ADJECTIVE));
    name.push(' ');
    name.push_str(choose(rng, &THING));
    fill(rng, &mut name, width);
    Product {
        name,
        price: Decimal::new(rng.random_range(99..=99_999), 2),
        stock: rng.random_range(1_000..1_000_000),
    }
}

/// A user whose name and address together are filled to `width` bytes.
pub fn user(rng: &mut impl Rng, width: usize) -> User {
    let (given, family) = (choose(rng, &GIVEN), choose(rng, &FAMILY));
    let number: u32 = rng.random_range(1..10_000_000);
    let email = format!(
        "{}.{}{number}@example.com",
        ascii_lower(given),
        ascii_lower(family)
    );
    let mut name = String::with_capacity(width.max(32));
    name.push_str(given);
    name.push(' ');
    name.push_str(family);
    fill(rng, &mut name, width.saturating_sub(email.len()));
    User { name, email }
}

fn choose<'a>(rng: &mut impl Rng, words: &[&'a str]) -> &'a str {
    words[rng.random_range(0..words.len())]
}

fn fill(rng: &mut impl Rng, text: &mut String, width: usize) {
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

/// A name as it stands in an address: ASCII letters alone, lower case.
fn ascii_lower(name: &str) -> String {
    name.chars()
        .filter(char::is_ascii_alphabetic)
        .map(|letter| letter.to_ascii_lowercase())
        .collect()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_row() {
        let row = |seed| product(&mut Xoshiro256PlusPlus::seed_from_u64(seed), 100);
        assert_eq!(row(7), row(7));
        assert_ne!(row(7), row(8));
    }

    #[test]
    fn rows_have_the_width_that_was_asked_for() {
        for seed in 0..200 {
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
            let product = product(&mut rng, 120);
            assert!((117..=120).contains(&product.name.len()), "{product:?}");
            let user = user(&mut rng, 200);
            let width = user.name.len() + user.email.len();
            assert!((197..=200).contains(&width), "{user:?}");
        }
    }

    #[test]
    fn addresses_are_ascii() {
        for seed in 0..200 {
            let user = user(&mut Xoshiro256PlusPlus::seed_from_u64(seed), 0);
            assert!(
                user.email.is_ascii() && user.email.contains('@'),
                "{user:?}"
            );
        }
    }
}
