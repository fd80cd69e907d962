//! `json_get_str` of a column and one key: most texts are found by the scanner that checked them when they came
//! (`event::decode::text_member`), which looks at a string 32 bytes at a time. What it does not tell, and every other
//! form of a call, goes to the function of `datafusion-functions-json`; both give one answer.

use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayAccessor, ArrayRef, StringArray, UInt64Array};
use arrow_schema::{DataType, FieldRef};
use datafusion::common::{Result, exec_err};
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ExpressionPlacement, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature,
};
use event::decode::{TextMember, text_member};

const NAME: &str = "json_get_str";

/// Puts the quick way before the function.
pub(crate) fn register(state: &mut SessionState) -> Result<()> {
    let general = state.udf(NAME)?;
    state.register_udf(Arc::new(ScalarUDF::from(JsonText { general })))?;
    Ok(())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct JsonText {
    general: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for JsonText {
    fn name(&self) -> &str {
        self.general.name()
    }

    fn aliases(&self) -> &[String] {
        self.general.aliases()
    }

    fn signature(&self) -> &Signature {
        self.general.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.general.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.general.return_field_from_args(args)
    }

    fn placement(&self, args: &[ExpressionPlacement]) -> ExpressionPlacement {
        self.general.placement(args)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.general.documentation()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [ColumnarValue::Array(texts), ColumnarValue::Scalar(key)] = &args.args[..] else {
            return self.general.invoke_with_args(args);
        };
        let Some(Some(key)) = key.try_as_str() else {
            return self.general.invoke_with_args(args);
        };
        let mut quick = match texts.data_type() {
            DataType::Utf8 => Quick::look(texts.as_string::<i32>(), key),
            DataType::Utf8View => Quick::look(texts.as_string_view(), key),
            _ => return self.general.invoke_with_args(args),
        };
        if quick.unclear.is_empty() {
            return Ok(ColumnarValue::Array(quick.found(None)));
        }
        // They alone are looked at once more.
        let rows = UInt64Array::from(std::mem::take(&mut quick.unclear));
        let texts = arrow_select::take::take(texts, &rows, None)?;
        let asked = ScalarFunctionArgs {
            args: vec![ColumnarValue::Array(texts), args.args[1].clone()],
            number_rows: rows.len(),
            ..args
        };
        let others = self.general.invoke_with_args(asked)?.into_array(rows.len())?;
        match others.as_string_opt() {
            Some(others) => Ok(ColumnarValue::Array(quick.found(Some(others)))),
            None => exec_err!("`{NAME}` gave {}", others.data_type()),
        }
    }
}

/// What was found of each row of a batch.
struct Quick<'a> {
    texts: Vec<TextMember<'a>>,
    /// The rows that are unclear.
    unclear: Vec<u64>,
}

impl<'a> Quick<'a> {
    fn look(texts: impl ArrayAccessor<Item = &'a str>, key: &str) -> Self {
        let mut quick = Self {
            texts: Vec::with_capacity(texts.len()),
            unclear: Vec::new(),
        };
        for row in 0..texts.len() {
            let found = match texts.is_null(row) {
                true => TextMember::Nothing,
                false => text_member(texts.value(row), key),
            };
            if found == TextMember::Unclear {
                quick.unclear.push(row as u64);
            }
            quick.texts.push(found);
        }
        quick
    }

    /// The texts, with those of unclear rows, in their order.
    fn found(self, others: Option<&StringArray>) -> ArrayRef {
        let mut others = others.into_iter().flatten();
        let mut all = StringBuilder::with_capacity(self.texts.len(), self.texts.len() * 16);
        for text in self.texts {
            match text {
                TextMember::Text(text) => all.append_value(text),
                TextMember::Nothing => all.append_null(),
                TextMember::Unclear => all.append_option(others.next().flatten()),
            }
        }
        Arc::new(all.finish())
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::StringViewArray;
    use arrow_schema::Field;
    use datafusion::common::ScalarValue;
    use datafusion::config::ConfigOptions;
    use datafusion::execution::SessionStateBuilder;
    use rand::prelude::*;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Objects as clients write them, and some that nobody should.
    fn text(random: &mut ChaCha8Rng) -> Option<String> {
        const KEYS: [&str; 6] = ["a", "b", "ab", "größe", r"\u0061", ""];
        const VALUES: [&str; 19] = [
            r#""x""#,
            r#""""#,
            r#""größer als 32 Bytes ist dieser Text hier""#,
            r#""\n""#,
            r#""\u0041\ud83d\ude00""#,
            r#""\ud800""#,
            "1",
            "-0.5e-3",
            "01",
            "1e999",
            "true",
            "null",
            "nul",
            "[]",
            r#"[1,{"a":"x"}]"#,
            r#"{"a":"inside","a":"twice"}"#,
            "NaN",
            "-",
            "{",
        ];
        const SPACE: [&str; 5] = ["", "", "", " ", "\n\t"];
        let members: Vec<String> = (0..random.random_range(0..5))
            .map(|_| {
                let mut space = || *SPACE.choose(random).unwrap();
                let (one, two, three) = (space(), space(), space());
                let (key, value) = (KEYS.choose(random).unwrap(), VALUES.choose(random).unwrap());
                format!(r#"{one}"{key}"{two}:{three}{value}"#)
            })
            .collect();
        let mut json = match random.random_range(0..12) {
            0 => format!("[{}]", members.join(",")),
            1 => VALUES.choose(random).unwrap().to_string(),
            2 => return None,
            _ => format!("{{{}}}", members.join(",")),
        };
        if random.random_bool(0.2) {
            let at = random.random_range(0..=json.len());
            if json.is_char_boundary(at) {
                match random.random_bool(0.5) {
                    true => json.truncate(at),
                    false => json.insert(
                        at,
                        *[' ', '"', '\\', ',', '\u{1}', 'x', '}'].choose(random).unwrap(),
                    ),
                }
            }
        }
        Some(json)
    }

    fn call(function: &ScalarUDF, texts: ArrayRef, key: &str) -> ArrayRef {
        let rows = texts.len();
        let fields = [texts.data_type().clone(), DataType::Utf8]
            .map(|kind| Arc::new(Field::new("argument", kind, true)));
        let asked = ScalarFunctionArgs {
            args: vec![
                ColumnarValue::Array(texts),
                ColumnarValue::Scalar(ScalarValue::from(key)),
            ],
            arg_fields: fields.into(),
            number_rows: rows,
            return_field: Arc::new(Field::new("answer", DataType::Utf8, true)),
            config_options: Arc::new(ConfigOptions::default()),
        };
        function
            .invoke_with_args(asked)
            .unwrap()
            .into_array(rows)
            .unwrap()
    }

    #[test]
    fn the_quick_way_and_the_general_one_give_one_answer() {
        let mut state = SessionStateBuilder::new().build();
        datafusion_functions_json::register_all(&mut state).unwrap();
        let general = state.udf(NAME).unwrap();
        register(&mut state).unwrap();
        let quick = state.udf(NAME).unwrap();
        let seed = rand::rng().random();
        println!("seed {seed}");
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut found = 0;
        for _ in 0..300 {
            let texts: Vec<Option<String>> = (0..200).map(|_| text(&mut random)).collect();
            let arrays: [ArrayRef; 2] = [
                Arc::new(StringArray::from(texts.clone())),
                Arc::new(StringViewArray::from_iter(texts.iter().map(Option::as_deref))),
            ];
            for array in arrays {
                // A slice, as a filter or a limit leaves one.
                let array = array.slice(3, 190);
                for key in ["a", "größe", ""] {
                    let (quick, general) = (
                        call(&quick, Arc::clone(&array), key),
                        call(&general, Arc::clone(&array), key),
                    );
                    for row in 0..array.len() {
                        let of = |answer: &ArrayRef| {
                            (!answer.is_null(row)).then(|| answer.as_string::<i32>().value(row).to_owned())
                        };
                        assert_eq!(of(&quick), of(&general), "seed {seed}: {:?}", texts[row + 3]);
                        found += usize::from(!quick.is_null(row));
                    }
                }
            }
        }
        assert!(found > 10_000, "{found}");
    }
}
