//! HubSpot's property values, which are strings whatever their type, as canonical cells.
//! Pure; knows no property by name.

use std::borrow::Cow;

use jiff::{Timestamp, civil::Date, tz::TimeZone};

use crate::model::record::Cell;

/// A value that is not of its property's type; the caller names the property, never the value (R18).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unreadable;

type Value<'a> = Result<Cell<'a>, Unreadable>;

/// Longest number after an exponent is written out; `model::record` refuses longer ones as well.
const MAX_DECIMAL_LENGTH: usize = 100;

/// The text of a raw JSON scalar; an empty string and `null` are no value.
pub(super) fn scalar(raw: &str) -> Result<Option<Cow<'_, str>>, Unreadable> {
    let text = match raw.as_bytes().first() {
        Some(b'"') => {
            let inner = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).ok_or(Unreadable)?;
            if inner.contains('\\') {
                Cow::Owned(serde_json::from_str::<String>(raw).map_err(|_| Unreadable)?)
            } else {
                Cow::Borrowed(inner)
            }
        }
        Some(b'n') => return Ok(None),
        Some(b'{' | b'[') | None => return Err(Unreadable),
        Some(_) => Cow::Borrowed(raw),
    };
    Ok(Some(text).filter(|text| !text.is_empty()))
}

pub(super) fn text(text: Cow<'_, str>) -> Value<'_> {
    Ok(Cell::Text(text))
}

/// `12` and `12.0`; a fraction is not an integer.
pub(super) fn integer(text: Cow<'_, str>) -> Value<'_> {
    whole(&text).map(Cell::Integer)
}

/// Milliseconds, rounded down to seconds.
pub(super) fn milliseconds(text: Cow<'_, str>) -> Value<'_> {
    let number = plain_decimal(&text)?;
    let whole = number.split_once('.').map_or(&*number, |(whole, _)| whole);
    whole.parse::<i64>().map(|value| Cell::Integer(value.div_euclid(1000))).map_err(|_| Unreadable)
}

fn whole(text: &str) -> Result<i64, Unreadable> {
    if let Ok(value) = text.parse() {
        return Ok(value);
    }
    let number = plain_decimal(text)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((&number, ""));
    if fraction.bytes().all(|digit| digit == b'0') { whole.parse().map_err(|_| Unreadable) } else { Err(Unreadable) }
}

/// A decimal number in plain digits: an exponent is written out exactly, never through a float.
pub(super) fn decimal(text: Cow<'_, str>) -> Value<'_> {
    let plain = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    if plain && (1..=MAX_DECIMAL_LENGTH).contains(&text.len()) {
        return Ok(Cell::Decimal(text));
    }
    plain_decimal(&text).map(|number| Cell::Decimal(Cow::Owned(number)))
}

fn plain_decimal(text: &str) -> Result<String, Unreadable> {
    let text = text.trim();
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| Unreadable)?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let point = i32::try_from(whole.len()).map_err(|_| Unreadable)?.checked_add(exponent).ok_or(Unreadable)?;
    let longest = i32::try_from(MAX_DECIMAL_LENGTH).map_err(|_| Unreadable)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) || point.abs() > longest {
        return Err(Unreadable);
    }
    let number = written_out(&digits, point);
    let number = if negative && number.bytes().any(|byte| (b'1'..=b'9').contains(&byte)) {
        format!("-{number}")
    } else {
        number
    };
    if number.len() <= MAX_DECIMAL_LENGTH { Ok(number) } else { Err(Unreadable) }
}

/// `digits` with the decimal point after the first `point` of them, padded with zeros where there are not so many.
fn written_out(digits: &str, point: i32) -> String {
    let Ok(point) = usize::try_from(point) else {
        return format!("0.{}{digits}", "0".repeat(point.unsigned_abs() as usize));
    };
    let (whole, fraction) = if point >= digits.len() {
        (format!("{digits}{}", "0".repeat(point - digits.len())), "")
    } else {
        (digits[..point].to_owned(), &digits[point..])
    };
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        significant => significant,
    };
    if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") }
}

pub(super) fn boolean(text: Cow<'_, str>) -> Value<'_> {
    flag(&text).map(Cell::Boolean)
}

/// `true` or `false`, in any case.
pub(super) fn flag(text: &str) -> Result<bool, Unreadable> {
    if text.eq_ignore_ascii_case("true") {
        Ok(true)
    } else if text.eq_ignore_ascii_case("false") {
        Ok(false)
    } else {
        Err(Unreadable)
    }
}

pub(super) fn timestamp(text: Cow<'_, str>) -> Value<'_> {
    instant(&text).map(Cell::Timestamp)
}

/// ISO 8601, milliseconds since 1970, or a date alone: its midnight in UTC (developers.hubspot.com, Properties, "date").
pub(super) fn instant(text: &str) -> Result<Timestamp, Unreadable> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    if let Ok(milliseconds) = text.parse::<i64>() {
        return Timestamp::from_millisecond(milliseconds).map_err(|_| Unreadable);
    }
    let midnight = text.parse::<Date>().ok().and_then(|date| date.to_zoned(TimeZone::UTC).ok());
    midnight.map(|midnight| midnight.timestamp()).ok_or(Unreadable)
}

/// The calendar date in UTC, which is how HubSpot stores dates.
pub(super) fn date(text: Cow<'_, str>) -> Value<'_> {
    instant(&text).map(|at| Cell::Date(at.to_zoned(TimeZone::UTC).date()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_borrow_unless_escaped_and_empty_is_no_value() {
        assert!(matches!(scalar(r#""plain ü""#), Ok(Some(Cow::Borrowed("plain ü")))));
        assert!(matches!(scalar(r#""a\"b""#), Ok(Some(Cow::Owned(text))) if text == "a\"b"));
        assert_eq!((scalar(r#""""#), scalar("null")), (Ok(None), Ok(None)));
        assert_eq!((scalar("12"), scalar("true")), (Ok(Some("12".into())), Ok(Some("true".into()))));
        for bad in ["{}", "[1]", "", r#""\ud800""#] {
            assert_eq!(scalar(bad), Err(Unreadable), "{bad}");
        }
    }

    #[test]
    fn numbers_are_written_out_exactly() {
        let cases = [
            ("1e3", "1000"),
            ("1.25E2", "125"),
            ("-1.5e-3", "-0.0015"),
            ("007", "7"),
            ("+7", "7"),
            (".5", "0.5"),
            ("5.", "5"),
            ("-0", "0"),
            ("00.10", "0.10"),
            ("123456789012345678901234567890.1", "123456789012345678901234567890.1"),
            ("12.5e1", "125"),
            ("0e50", "0"),
        ];
        for (given, plain) in cases {
            assert_eq!(decimal(given.into()), Ok(Cell::Decimal(plain.into())), "{given}");
        }
        for bad in ["", "NaN", "Infinity", "1e999", "1e", "1,5", "12 €", "--1", "e3", ".", "1.2.3", &"9".repeat(101)]
        {
            assert_eq!(decimal(bad.into()), Err(Unreadable), "{bad}");
        }
        assert_eq!(integer("12.0".into()), Ok(Cell::Integer(12)));
        assert_eq!(integer("1.2e1".into()), Ok(Cell::Integer(12)));
        assert_eq!((integer("12.5".into()), integer("ten".into())), (Err(Unreadable), Err(Unreadable)));
        assert_eq!(milliseconds("61999".into()), Ok(Cell::Integer(61)));
    }

    #[test]
    fn times_are_iso_or_epoch_milliseconds_or_dates() {
        let at = |text: &str| instant(text).map(|at| at.to_string());
        assert_eq!(at("2026-01-02T03:04:05.678Z"), Ok("2026-01-02T03:04:05.678Z".to_owned()));
        assert_eq!(at("2026-01-02T03:04:05+02:00"), Ok("2026-01-02T01:04:05Z".to_owned()));
        assert_eq!(at("1767323045678"), Ok("2026-01-02T03:04:05.678Z".to_owned()));
        assert_eq!(at("2026-01-02"), Ok("2026-01-02T00:00:00Z".to_owned()));
        assert_eq!(at("yesterday"), Err(Unreadable));
        let last_of_march = Date::constant(2026, 3, 31);
        assert_eq!(date("2026-03-31T23:59:59.999Z".into()), Ok(Cell::Date(last_of_march)));
        assert_eq!((flag("TRUE"), flag("False"), flag("1")), (Ok(true), Ok(false), Err(Unreadable)));
    }
}
