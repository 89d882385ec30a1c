//! Enumerations that are columns of text: their names in the database are those of the contract.

/// Gives an enum its names, and makes it a `text` for sqlx.
///
/// The derive of sqlx would look the type's name up in the catalogue: one more round trip for each connection.
macro_rules! stored_as_text {
    ($name:ident { $($variant:ident = $text:literal),+ $(,)? }) => {
        impl $name {
            /// As the contract and the database write it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text),+
                }
            }
        }

        #[cfg(feature = "database")]

        impl sqlx::Type<sqlx::Postgres> for $name {
            fn type_info() -> sqlx::postgres::PgTypeInfo {
                <str as sqlx::Type<sqlx::Postgres>>::type_info()
            }
        }

        #[cfg(feature = "database")]

        impl sqlx::postgres::PgHasArrayType for $name {
            fn array_type_info() -> sqlx::postgres::PgTypeInfo {
                <&str as sqlx::postgres::PgHasArrayType>::array_type_info()
            }
        }

        #[cfg(feature = "database")]

        impl sqlx::Encode<'_, sqlx::Postgres> for $name {
            fn encode_by_ref(
                &self,
                buffer: &mut sqlx::postgres::PgArgumentBuffer,
            ) -> Result<sqlx::encode::IsNull, sqlx::error::BoxDynError> {
                <&str as sqlx::Encode<sqlx::Postgres>>::encode(self.as_str(), buffer)
            }
        }

        #[cfg(feature = "database")]

        impl<'row> sqlx::Decode<'row, sqlx::Postgres> for $name {
            fn decode(value: sqlx::postgres::PgValueRef<'row>) -> Result<Self, sqlx::error::BoxDynError> {
                match <&str as sqlx::Decode<sqlx::Postgres>>::decode(value)? {
                    $($text => Ok(Self::$variant),)+
                    other => Err(format!("{other} is no {}", stringify!($name)).into()),
                }
            }
        }
    };
}
pub(super) use stored_as_text;
