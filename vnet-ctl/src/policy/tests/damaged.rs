//! Whatever happens to a file, it is answered, never crashed over.

use super::parse_text;

/// A linear congruential generator (Knuth, MMIX): the same numbers in every run.
fn next(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize
}

/// Pieces that make a file wrong in more interesting ways than single letters.
const PIECES: [&str; 16] = [
    "[",
    "]",
    "{",
    "}",
    "\"",
    "'''",
    "=",
    ",",
    "\n",
    "ö",
    "\u{feff}",
    "\0",
    "0",
    "-",
    "networks.web.",
    "[[ports]]",
];

#[test]
fn damaged_files_are_answered_with_places_inside_them() {
    let whole = include_str!("../../../../examples/quickstart.toml");
    let mut state = 1;
    let mut wrong = 0;
    for _ in 0..1500 {
        let mut chars: Vec<char> = whole.chars().collect();
        for _ in 0..=next(&mut state) % 3 {
            let at = next(&mut state) % chars.len();
            match next(&mut state) % 3 {
                0 => drop(chars.remove(at)),
                1 => chars.truncate(at.max(1)),
                _ => drop(chars.splice(at..at, PIECES[next(&mut state) % PIECES.len()].chars())),
            }
        }
        let text: String = chars.into_iter().collect();
        if let Err(diagnostics) = parse_text(&text) {
            wrong += 1;
            assert!(diagnostics.len() > 0 && diagnostics.to_string().contains("p.toml:"));
            let lines = text.lines().count().max(1);
            assert!(diagnostics.iter().all(|found| (1..=lines + 1).contains(&found.line)), "{diagnostics}");
        }
    }
    assert!(wrong > 500, "only {wrong} of the damaged files were wrong");
}
