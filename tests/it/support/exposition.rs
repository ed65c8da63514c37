//! A strict reader of the text format that Prometheus scrapes (version 0.0.4): what a real one would refuse or take
//! amiss is an error here.
//!
//! Must not: be lenient, or know which metrics there are.

use std::collections::{BTreeMap, BTreeSet};

/// Labels of a sample, by name.
pub type Labels = BTreeMap<String, String>;

#[derive(Debug, Default)]
pub struct Family {
    pub kind: String,
    pub help: String,
    /// The sample's name, its labels, its value; in order.
    pub samples: Vec<(String, Labels, f64)>,
}

/// A whole exposition, by the names of its families.
#[derive(Debug)]
pub struct Exposition(pub BTreeMap<String, Family>);

impl Exposition {
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.ends_with('\n') {
            return Err("the last line does not end".to_owned());
        }
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let mut current = String::new();
        let mut seen = BTreeSet::new();
        for (number, line) in text.lines().enumerate() {
            let wrong = |why: &str| format!("line {}: {why}: {line}", number + 1);
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').ok_or_else(|| wrong("no help"))?;
                if !is_name(name) || help.trim().is_empty() {
                    return Err(wrong("a name and a help"));
                }
                let family = Family { help: help.to_owned(), ..Family::default() };
                if families.insert(name.to_owned(), family).is_some() {
                    return Err(wrong("a family twice"));
                }
                current = name.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').ok_or_else(|| wrong("no type"))?;
                let family = families.get_mut(name).filter(|_| name == current);
                let family = family.ok_or_else(|| wrong("the type of what had no help"))?;
                if !["counter", "gauge", "histogram"].contains(&kind) || !family.kind.is_empty() {
                    return Err(wrong("not a type, or a second one"));
                }
                family.kind = kind.to_owned();
            } else if line.starts_with('#') || line.trim().is_empty() {
                return Err(wrong("neither a sample nor help nor type"));
            } else {
                let sample = sample(line).map_err(|why| wrong(&why))?;
                let family = families.get_mut(&current).ok_or_else(|| wrong("a sample of no family"))?;
                let suffixes: &[&str] =
                    if family.kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
                if !suffixes.iter().any(|suffix| sample.0 == format!("{current}{suffix}")) {
                    return Err(wrong("a sample of another family"));
                }
                if !seen.insert((sample.0.clone(), sample.1.clone())) {
                    return Err(wrong("a sample twice"));
                }
                family.samples.push(sample);
            }
        }
        for (name, family) in &families {
            family.check(name).map_err(|why| format!("{name}: {why}"))?;
        }
        Ok(Self(families))
    }

    /// The value of a counter, a gauge or a histogram's part; 0 where a labelled one has not begun.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let parts = ["_bucket", "_sum", "_count"];
        let family = self.0.get(name).or_else(|| {
            parts.iter().find_map(|part| name.strip_suffix(part).and_then(|family| self.0.get(family)))
        });
        let family = family.unwrap_or_else(|| panic!("there is no `{name}`"));
        let labels: Labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let found = family.samples.iter().find(|sample| sample.0 == name && sample.1 == labels);
        found.map_or(0.0, |sample| sample.2)
    }
}

impl Family {
    fn check(&self, name: &str) -> Result<(), String> {
        if self.kind.is_empty() {
            return Err("no type".to_owned());
        }
        if (self.kind == "counter") != name.ends_with("_total") {
            return Err("`_total` is for counters, and for each of them".to_owned());
        }
        if self.kind != "gauge" && self.samples.iter().any(|sample| sample.2.is_nan() || sample.2 < 0.0) {
            return Err("a count below nothing".to_owned());
        }
        if self.kind != "histogram" {
            return Ok(());
        }
        let mut series: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
        for (sample, labels, value) in &self.samples {
            let mut rest = labels.clone();
            if sample.ends_with("_bucket") {
                let bound = rest.remove("le").ok_or("a bucket without `le`")?;
                series.entry(rest).or_default().push((number(&bound)?, *value));
            }
        }
        for (labels, buckets) in series {
            let rising = buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
            let last = buckets.last().ok_or("no bucket")?;
            let count = self.samples.iter().find(|s| s.0 == format!("{name}_count") && s.1 == labels);
            let sum = self.samples.iter().any(|s| s.0 == format!("{name}_sum") && s.1 == labels);
            if !rising || !last.0.is_infinite() || count.is_none_or(|count| count.2 != last.1) || !sum {
                return Err(format!("buckets that do not add up: {buckets:?}"));
            }
        }
        Ok(())
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

fn number(text: &str) -> Result<f64, String> {
    match text {
        "+Inf" => Ok(f64::INFINITY),
        "NaN" => Ok(f64::NAN),
        _ if text.bytes().all(|b| b.is_ascii_digit() || b"+-.e".contains(&b)) => {
            text.parse().map_err(|e| format!("`{text}`: {e}"))
        }
        _ => Err(format!("`{text}` is no number")),
    }
}

/// `name{label="value",…} 1.5`
fn sample(line: &str) -> Result<(String, Labels, f64), String> {
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, mut rest) = line.split_at(end);
    if !is_name(name) {
        return Err(format!("`{name}` is no name"));
    }
    let mut labels = Labels::new();
    if let Some(inner) = rest.strip_prefix('{') {
        let mut chars = inner;
        loop {
            let (label, value) = chars.split_once("=\"").ok_or("a label without value")?;
            let (value, after) = quoted(value)?;
            if !is_name(label) || labels.insert(label.to_owned(), value).is_some() {
                return Err(format!("`{label}` is no label, or there twice"));
            }
            if let Some(after) = after.strip_prefix('}') {
                rest = after;
                break;
            }
            chars = after.strip_prefix(',').ok_or("neither `,` nor `}` after a label")?;
        }
    }
    let value = rest.strip_prefix(' ').ok_or("no space before the value")?;
    Ok((name.to_owned(), labels, number(value)?))
}

/// Up to the closing quote; and what follows it.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let (mut out, mut chars) = (String::new(), text.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((out, &text[at + 1..])),
            '\\' => match chars.next().map(|(_, c)| c) {
                Some('n') => out.push('\n'),
                Some(c @ ('\\' | '"')) => out.push(c),
                other => return Err(format!("`\\{other:?}` is no escape")),
            },
            c => out.push(c),
        }
    }
    Err("a value without end".to_owned())
}

#[test]
fn what_prometheus_would_refuse_is_refused() {
    let good = "# HELP a_total What.\n# TYPE a_total counter\na_total{k=\"v\\\"w\"} 1\n";
    let read = Exposition::parse(good).expect("reads");
    assert_eq!(read.value("a_total", &[("k", "v\"w")]).to_bits(), 1_f64.to_bits());
    for bad in [
        "a_total 1\n",
        "# HELP a_total What.\na_total 1\n",
        "# HELP a_total What.\n# TYPE a_total counter\na_total 1",
        "# HELP a_total What.\n# TYPE a_total counter\na_total 1\na_total 2\n",
        "# HELP a_total What.\n# TYPE a_total counter\na_total{k=v} 1\n",
        "# HELP a_total What.\n# TYPE a_total counter\na_total{k=\"v\" 1\n",
        "# HELP a_total What.\n# TYPE a_total counter\na_total one\n",
        "# HELP a_total What.\n# TYPE a_total gauge\na_total 1\n",
        "# HELP a What.\n# TYPE a counter\na 1\n",
        "# HELP a What.\n# TYPE a gauge\nb 1\n",
        "# HELP h What.\n# TYPE h histogram\nh_bucket{le=\"1.0\"} 2\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n",
        "# HELP h What.\n# TYPE h histogram\nh_bucket{le=\"1.0\"} 1\nh_sum 1\nh_count 1\n",
        "# HELP h What.\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_count 1\n",
    ] {
        assert!(Exposition::parse(bad).is_err(), "{bad}");
    }
}
