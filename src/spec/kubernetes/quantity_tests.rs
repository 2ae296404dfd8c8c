//! Amounts against what Kubernetes' own parser and printer give, and their properties.

use proptest::prelude::*;

use super::*;

fn parsed(text: &str) -> Quantity {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn texts_become_canonical() {
    for (text, canonical, value, milli) in [
        ("0", "0", 0, 0),
        ("0Ki", "0", 0, 0),
        ("-0", "0", 0, 0),
        ("0.0", "0", 0, 0),
        ("100m", "100m", 1, 100),
        ("0.1", "100m", 1, 100),
        (".5", "500m", 1, 500),
        ("1.", "1", 1, 1000),
        ("+7", "7", 7, 7000),
        ("1000m", "1", 1, 1000),
        ("1500m", "1500m", 2, 1500),
        ("1.5", "1500m", 2, 1500),
        ("0.0001", "100u", 1, 1),
        ("1n", "1n", 1, 1),
        ("0.9n", "1n", 1, 1),
        ("1e-12", "1e-9", 1, 1),
        ("1.2345", "1234500u", 2, 1235),
        ("1Ki", "1Ki", 1024, 1_024_000),
        ("1024", "1024", 1024, 1_024_000),
        ("1.5Gi", "1536Mi", 1_610_612_736, 1_610_612_736_000),
        ("1023Ki", "1023Ki", 1_047_552, 1_047_552_000),
        ("1Mi", "1Mi", 1 << 20, (1 << 20) * 1000),
        ("1024Mi", "1Gi", 1 << 30, (1 << 30) * 1000),
        ("64Ti", "64Ti", 64 << 40, (64 << 40) * 1000),
        ("0.5Ki", "512", 512, 512_000),
        ("0.0001Ki", "102400u", 1, 103),
        ("1k", "1k", 1000, 1_000_000),
        ("1000k", "1M", 1_000_000, 1_000_000_000),
        ("1500k", "1500k", 1_500_000, 1_500_000_000),
        ("128974848", "128974848", 128_974_848, 128_974_848_000),
        ("129e6", "129e6", 129_000_000, 129_000_000_000),
        ("129M", "129M", 129_000_000, 129_000_000_000),
        ("1E", "1E", 1_000_000_000_000_000_000, i64::MAX),
        ("1E3", "1e3", 1000, 1_000_000),
        ("1e2", "100", 100, 100_000),
        ("12e6", "12e6", 12_000_000, 12_000_000_000),
        ("1e+3", "1e3", 1000, 1_000_000),
        ("1000E", "1e21", i64::MAX, i64::MAX),
        ("-1.5Gi", "-1536Mi", -1_610_612_736, -1_610_612_736_000),
        ("-100m", "-100m", -1, -100),
        ("8Ei", "9223372036854775807", i64::MAX, i64::MAX),
        ("9223372036854775807Ei", "9223372036854775807", i64::MAX, i64::MAX),
        ("18446744073709551616", "18446744073709551616", i64::MAX, i64::MAX),
        ("9223372036854775807", "9223372036854775807", i64::MAX, i64::MAX),
        ("-9223372036854775808", "-9223372036854775808", i64::MIN, i64::MIN),
        ("1.123456789123Ki", "1150419752062n", 1151, 1_150_420),
        ("0000000000000000000000000000000000000000000000000001", "1", 1, 1000),
        ("1.0000000000000000000000000000000000000000000000", "1", 1, 1000),
    ] {
        let quantity = parsed(text);
        assert_eq!(quantity.to_string(), canonical, "{text}");
        assert_eq!((quantity.value(), quantity.milli_value()), (value, milli), "{text}");
        assert_eq!(parsed(canonical), quantity, "{text}");
    }
}

#[test]
fn what_is_no_amount_is_refused_with_the_text_and_what_is_allowed() {
    for text in [
        "",
        " ",
        " 1",
        "1 ",
        "+",
        "-",
        ".",
        "m",
        "Ki",
        "--1",
        "+-1",
        "1.1.M",
        "1+1.0M",
        "0.1mi",
        "0.1am",
        "aoeu",
        ".5i",
        "1i",
        "-3.01i",
        "-3.01e-",
        "1e",
        "1e3.5",
        "1e3k",
        "1kk",
        "1KI",
        "1ki",
        "1K",
        "1MiB",
        "0x10",
        "1_000",
        "1,5",
        "∞",
        "1e30",
        "1e1000",
        "1e99999999999999999999",
        "1234567890123456789012345678901234567",
    ] {
        let error = text.parse::<Quantity>().expect_err(text).to_string();
        assert!(error.contains(&format!("quantity {text:?}")) && error.contains("Ki Mi Gi"), "{error}");
    }
    let long = "1".repeat(5000).parse::<Quantity>().unwrap_err().to_string();
    assert!(long.contains("longer than 128 bytes") && long.len() < 500, "{long}");
}

#[test]
fn numbers_of_json_are_read_and_texts_written() {
    for (json, canonical) in [("2", "2"), ("0.5", "500m"), ("-3", "-3"), ("\"1Gi\"", "1Gi"), ("1e21", "1e21")]
    {
        let quantity: Quantity = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&quantity).unwrap(), format!("{canonical:?}"));
    }
    let error = serde_json::from_str::<Quantity>("\"1GB\"").unwrap_err().to_string();
    assert!(error.contains("quantity \"1GB\""), "{error}");
    assert!(serde_json::from_str::<Quantity>("true").unwrap_err().to_string().contains("a quantity such as"));
}

fn text() -> impl Strategy<Value = String> {
    let suffixes: Vec<String> = DECIMAL
        .iter()
        .map(|(name, _)| name.to_string())
        .chain(BINARY.iter().map(|(name, _)| name.to_string()))
        .chain(["e3", "E-2", "e0", "e+9"].map(str::to_string))
        .collect();
    ("[+-]?", any::<u32>(), proptest::option::of(0_u32..100_000), proptest::sample::select(suffixes))
        .prop_map(|(sign, whole, part, suffix)| match part {
            Some(part) => format!("{sign}{whole}.{part:05}{suffix}"),
            None => format!("{sign}{whole}{suffix}"),
        })
}

proptest! {
    #[test]
    fn what_is_printed_is_read_as_the_same_and_printed_the_same(text in text()) {
        let quantity = parsed(&text);
        let printed = quantity.to_string();
        prop_assert!(!printed.contains('.'));
        prop_assert_eq!(parsed(&printed), quantity);
        prop_assert_eq!(parsed(&printed).to_string(), printed);
    }

    #[test]
    fn any_text_is_an_amount_or_an_error(text in "[-+0-9.eEinumkKMGTPa ]{0,40}") {
        if let Ok(quantity) = text.parse::<Quantity>() {
            prop_assert_eq!(parsed(&quantity.to_string()), quantity);
        }
    }

    #[test]
    fn rounding_goes_away_from_zero_and_keeps_the_order(a in text(), b in text()) {
        let (a, b) = (parsed(&a), parsed(&b));
        if a <= b {
            prop_assert!(a.value() <= b.value() && a.milli_value() <= b.milli_value());
        }
        if !a.is_zero() {
            prop_assert!(a.value() != 0 && a.milli_value() != 0);
        }
        let value = i128::from(a.value());
        if value < i128::from(i64::MAX) && value > i128::from(i64::MIN) {
            prop_assert!((value * NANO).abs() >= a.nanos.abs() && (value * NANO - a.nanos).abs() < NANO);
        }
    }

    #[test]
    fn whole_numbers_are_themselves(value in any::<i64>()) {
        prop_assert_eq!(Quantity::new(value).value(), value);
        prop_assert_eq!(parsed(&Quantity::new(value).to_string()).value(), value);
        prop_assert_eq!(Quantity::from_milli(value).milli_value(), value);
    }
}

/// Found by fuzzing: with the digits of a rounded fraction behind it, what was printed had more digits than were read.
#[test]
fn what_is_printed_can_be_read_however_long_it_is() {
    for (text, printed) in [
        ("2716777777677777777777777777.77766916", "2716777777677777777777777777777669160n"),
        ("1234567890123456789012345678.1234567891", "1234567890123456789012345678123456790n"),
        ("99999999999999999999999999999999999999n", "99999999999999999999999999999999999999n"),
    ] {
        let quantity: Quantity = text.parse().unwrap();
        assert_eq!(quantity.to_string(), printed);
        assert_eq!(printed.parse::<Quantity>().unwrap(), quantity, "{text}");
    }
    for text in ["100000000000000000000000000000", "1e38", "123456789012345678901234567890123456789n"] {
        assert!(text.parse::<Quantity>().is_err(), "{text}");
    }
}

/// As `UnmarshalJSON` of the API machinery; `ParseQuantity`, which reads other texts, takes no space.
#[test]
fn json_may_have_space_and_null() {
    let read = |json: &str| serde_json::from_str::<Quantity>(json);
    assert_eq!(read(r#"" 500m\t""#).unwrap(), Quantity::from_milli(500));
    assert_eq!(read("null").unwrap(), Quantity::ZERO);
    for wrong in [r#""5 00m""#, r#"" ""#, "true", "[]"] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
    assert!(" 500m".parse::<Quantity>().is_err());
}
