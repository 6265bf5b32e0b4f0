"""TFLite by our own hand: the file as data (`file`), graphs into it (`emitter`), and back (`reader`)."""
