//! Shrinks pictures: a task in plain Rust.

/// Thumbnails of PNG and JPEG pictures.
#[omniq::tasks]
mod tasks {
    use std::io::Cursor;

    use image::codecs::jpeg::JpegEncoder;
    use image::{DynamicImage, ImageError, ImageFormat, ImageReader, Limits};
    use omniq::{log, progress};

    /// Shrinks a picture to `width` pixels, in proportion. One that is narrower already keeps its size.
    ///
    /// Pictures with transparency become PNG, all others JPEG.
    pub fn resize(image: &[u8], width: u32) -> Result<Thumb, Error> {
        if width == 0 {
            return Err(Error::ZeroWidth);
        }
        report(0, "decoding");
        let picture = decode(image)?;

        report(1, "shrinking");
        let width = width.min(picture.width());
        // `thumbnail` keeps the proportions, and looks at each pixel once.
        let small = picture.thumbnail(width, u32::MAX);

        report(2, "encoding");
        let thumb = encode(&small)?;
        report(3, "done");
        log::info(
            "shrunk a picture",
            &[
                ("from", &format_args!("{}x{}", picture.width(), picture.height())),
                ("to", &format_args!("{}x{}", thumb.width, thumb.height)),
                ("bytes", &thumb.data.len()),
            ],
        );
        Ok(thumb)
    }

    /// Says what a picture is, without decoding all of it.
    pub fn probe(image: &[u8]) -> Result<Info, Error> {
        let reader = ImageReader::new(Cursor::new(image)).with_guessed_format().map_err(broken)?;
        let format = Format::of(reader.format())?;
        let (width, height) = reader.into_dimensions().map_err(broken)?;
        Ok(Info { format, width, height })
    }

    /// A small picture.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Thumb {
        pub format: Format,
        /// In pixels.
        pub width: u32,
        /// In pixels.
        pub height: u32,
        /// The encoded picture, as it belongs into a file.
        pub data: Vec<u8>,
    }

    /// What a picture is.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Info {
        pub format: Format,
        /// In pixels.
        pub width: u32,
        /// In pixels.
        pub height: u32,
    }

    /// How a picture is encoded.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Format {
        Png,
        Jpeg,
    }

    /// Why there is no thumbnail.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub enum Error {
        /// A width of 0 leaves nothing to look at.
        ZeroWidth,
        /// Neither PNG nor JPEG.
        UnknownFormat,
        /// The picture is wider, higher or altogether larger than what is taken.
        TooLarge { max_side: u32, max_bytes: u64 },
        /// The picture is damaged.
        Broken(String),
    }

    /// The longest side that is taken.
    const MAX_SIDE: u32 = 20_000;
    /// The most memory that decoding may take.
    const MAX_BYTES: u64 = 256 << 20;

    fn decode(bytes: &[u8]) -> Result<DynamicImage, Error> {
        let mut reader =
            ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(broken)?;
        Format::of(reader.format())?;
        let mut limits = Limits::default();
        limits.max_image_width = Some(MAX_SIDE);
        limits.max_image_height = Some(MAX_SIDE);
        limits.max_alloc = Some(MAX_BYTES);
        reader.limits(limits);
        reader.decode().map_err(|error| match error {
            ImageError::Limits(_) => Error::TooLarge { max_side: MAX_SIDE, max_bytes: MAX_BYTES },
            other => broken(other),
        })
    }

    fn encode(picture: &DynamicImage) -> Result<Thumb, Error> {
        let mut data = Vec::new();
        let format = if picture.color().has_alpha() {
            picture.write_to(&mut Cursor::new(&mut data), ImageFormat::Png).map_err(broken)?;
            Format::Png
        } else {
            let encoder = JpegEncoder::new_with_quality(&mut data, 80);
            picture.to_rgb8().write_with_encoder(encoder).map_err(broken)?;
            Format::Jpeg
        };
        Ok(Thumb { format, width: picture.width(), height: picture.height(), data })
    }

    impl Format {
        fn of(format: Option<ImageFormat>) -> Result<Self, Error> {
            match format {
                Some(ImageFormat::Png) => Ok(Format::Png),
                Some(ImageFormat::Jpeg) => Ok(Format::Jpeg),
                _ => Err(Error::UnknownFormat),
            }
        }
    }

    fn broken(error: impl std::fmt::Display) -> Error {
        Error::Broken(error.to_string())
    }

    /// A host that does not want to know how far the task has come is no reason to stop.
    fn report(done: u64, step: &str) {
        let _ = progress::report(done, Some(3), Some(step));
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        const PICTURE: &[u8] = include_bytes!("../balloons.jpg");

        #[test]
        fn pictures_shrink_in_proportion() {
            let info = probe(PICTURE).unwrap();
            assert_eq!((info.format, info.width, info.height), (Format::Jpeg, 480, 320));
            let thumb = resize(PICTURE, 120).unwrap();
            assert_eq!((thumb.format, thumb.width, thumb.height), (Format::Jpeg, 120, 80));
            assert_eq!(probe(&thumb.data).unwrap().width, 120);
        }

        #[test]
        fn transparency_is_kept() {
            let mut png = Vec::new();
            let picture = DynamicImage::new_rgba8(64, 32);
            picture.write_to(&mut Cursor::new(&mut png), ImageFormat::Png).unwrap();
            let thumb = resize(&png, 16).unwrap();
            assert_eq!((thumb.format, thumb.width, thumb.height), (Format::Png, 16, 8));
        }

        #[test]
        fn a_small_picture_keeps_its_size() {
            assert_eq!(resize(PICTURE, 10_000).unwrap().width, 480);
        }

        #[test]
        fn what_is_no_picture_is_named() {
            assert_eq!(resize(PICTURE, 0), Err(Error::ZeroWidth));
            assert_eq!(resize(b"text", 10), Err(Error::UnknownFormat));
            assert!(matches!(resize(&PICTURE[..200], 10), Err(Error::Broken(_))));
        }
    }
}
