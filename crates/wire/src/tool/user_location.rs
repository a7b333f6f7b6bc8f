//! `user_location` of `web_search` (contract 10).

use serde_json::{Map, Value};

use crate::decode::{At, Decode, Object, text};

/// Characters of a city, region or time zone.
const MAX_PLACE: usize = 255;

/// ISO 3166-1 alpha-2, officially assigned codes.
const COUNTRIES: &str = "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ \
BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ \
DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT \
GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY \
KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX \
MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS \
RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN \
TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW";

/// Reads it; keys that are null are stored as left out.
pub(super) fn decode(value: Value, at: &At<'_>) -> Decode<Value> {
    let mut o = Object::new(value, at)?;
    o.tag(&["approximate"])?;
    let fields = [
        ("city", o.optional("city", text(1, MAX_PLACE))?),
        ("country", o.optional("country", country)?),
        ("region", o.optional("region", text(1, MAX_PLACE))?),
        ("timezone", o.optional("timezone", timezone)?),
    ];
    o.finish()?;
    let mut out = Map::new();
    out.insert("type".into(), "approximate".into());
    for (key, value) in fields {
        if let Some(value) = value {
            out.insert(key.into(), value.into());
        }
    }
    Ok(Value::Object(out))
}

fn country(value: Value, at: &At<'_>) -> Decode<String> {
    let code = text(0, MAX_PLACE)(value, at)?;
    if code.len() == 2 && COUNTRIES.split(' ').any(|known| known == code) {
        Ok(code)
    } else {
        // The contract's own words for any country that cannot be searched from.
        Err(at.error("not a country the search provider supports"))
    }
}

/// The form of an IANA name (`Area/Location`, `UTC`); whether a time zone of that name exists is
/// left to the search provider, because the list changes several times a year.
fn timezone(value: Value, at: &At<'_>) -> Decode<String> {
    let zone = text(1, MAX_PLACE)(value, at)?;
    let is_name = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || b"_+-".contains(&c))
    };
    if zone.split('/').all(is_name) {
        Ok(zone)
    } else {
        Err(at.error("Input should be an IANA time zone such as 'America/Los_Angeles'"))
    }
}
