//! Bytes as hexadecimal digits, where nothing but text will do.

/// What a byte is as a digit; 255 for one that is none.
const VALUES: [u8; 256] = {
    let mut values = [255; 256];
    let mut digit = 0;
    while digit < 16 {
        values[b"0123456789abcdef"[digit] as usize] = digit as u8;
        values[b"0123456789ABCDEF"[digit] as usize] = digit as u8;
        digit += 1;
    }
    values
};

#[cfg(feature = "object")]
pub(crate) fn encode(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The bytes that stand there, in digits of either case.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let value = |digit: &u8| VALUES[usize::from(*digit)];
    let is_text = rest.is_empty() && pairs.as_flattened().iter().all(|digit| value(digit) < 16);
    is_text.then(|| pairs.iter().map(|[high, low]| value(high) << 4 | value(low)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_give_bytes_and_nothing_else_does() {
        assert_eq!(decode("00fF1a"), Some(vec![0, 255, 26]));
        assert_eq!(decode(""), Some(Vec::new()));
        for text in ["0", "0g", "g0", "é0", " 00"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    #[cfg(feature = "object")]
    #[test]
    fn bytes_come_back() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&all)), Some(all));
    }
}
