import sys
from pathlib import Path

# importlib mode adds no folder to the path: this lets tests share `reference_data`.
sys.path.insert(0, str(Path(__file__).parent))
