"""Works that the methods text cites."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reference:
    """A publication.

    Attributes
    ----------
    authors : str
        As BibTeX has them, "Last, First and Last, First and others", but with accents as letters.
    title, venue : str
    year : int
    number : str
        Volume and pages, such as "23:724-738".
    doi : str
    """

    authors: str
    title: str
    venue: str
    year: int
    number: str
    doi: str

    @property
    def short(self) -> str:
        """Name and year, as cited in the text."""
        first, *others = [name.split(",")[0] for name in self.authors.split(" and ")]
        shown = " and ".join([first, *others]) if len(others) < 2 else f"{first} et al."
        return f"{shown}, {self.year}"

    @property
    def full(self) -> str:
        """One line of a list of references."""
        authors = [" ".join(reversed(name.split(", "))) for name in self.authors.split(" and ")]
        names = ", ".join("et al." if name == "others" else name for name in authors)
        return f"{names} ({self.year}). {self.title}. {self.venue} {self.number}. https://doi.org/{self.doi}"


REFERENCES = {
    "hsf": Reference(
        "Poiret, Clement and Bouyeure, Antoine and Patil, Sandesh and Grigis, Antoine and Duchesnay, Edouard and "
        "Faillot, Matthieu and Bottlaender, Michel and Lemaitre, Frederic and Noulhiane, Marion",
        "A fast and robust hippocampal subfields segmentation: HSF revealing lifespan volumetric dynamics",
        "Frontiers in Neuroinformatics",
        2023,
        "17:1130845",
        "10.3389/fninf.2023.1130845",
    ),
    "hippunfold": Reference(
        "DeKraker, Jordan and Haast, Roy A. M. and Yousif, Mohamed D. and Karat, Bradley and Lau, Jonathan C. and "
        "Köhler, Stefan and Khan, Ali R.",
        "Automated hippocampal unfolding for morphometry and subfield segmentation with HippUnfold",
        "eLife",
        2022,
        "11:e77945",
        "10.7554/eLife.77945",
    ),
    "bids": Reference(
        "Gorgolewski, Krzysztof J. and Auer, Tibor and Calhoun, Vince D. and others",
        "The brain imaging data structure, a format for organizing and describing outputs of neuroimaging experiments",
        "Scientific Data",
        2016,
        "3:160044",
        "10.1038/sdata.2016.44",
    ),
    "bidsapps": Reference(
        "Gorgolewski, Krzysztof J. and Alfaro-Almagro, Fidel and Auer, Tibor and others",
        "BIDS apps: Improving ease of use, accessibility, and reproducibility of neuroimaging data analysis methods",
        "PLOS Computational Biology",
        2017,
        "13:e1005209",
        "10.1371/journal.pcbi.1005209",
    ),
    "pybids": Reference(
        "Yarkoni, Tal and Markiewicz, Christopher J. and de la Vega, Alejandro and others",
        "PyBIDS: Python tools for BIDS datasets",
        "Journal of Open Source Software",
        2019,
        "4:1294",
        "10.21105/joss.01294",
    ),
    "mni": Reference(
        "Fonov, Vladimir and Evans, Alan C. and Botteron, Kelly and Almli, C. Robert and McKinstry, Robert C. and "
        "Collins, D. Louis",
        "Unbiased average age-appropriate atlases for pediatric studies",
        "NeuroImage",
        2011,
        "54:313-327",
        "10.1016/j.neuroimage.2010.07.033",
    ),
    "mattes": Reference(
        "Mattes, David and Haynor, David R. and Vesselle, Hubert and Lewellen, Thomas K. and Eubank, William",
        "PET-CT image registration in the chest using free-form deformations",
        "IEEE Transactions on Medical Imaging",
        2003,
        "22:120-128",
        "10.1109/TMI.2003.809072",
    ),
    "simpleitk": Reference(
        "Lowekamp, Bradley C. and Chen, David T. and Ibáñez, Luis and Blezek, Daniel",
        "The Design of SimpleITK",
        "Frontiers in Neuroinformatics",
        2013,
        "7:45",
        "10.3389/fninf.2013.00045",
    ),
    "torchio": Reference(
        "Pérez-García, Fernando and Sparks, Rachel and Ourselin, Sébastien",
        "TorchIO: a Python library for efficient loading, preprocessing, augmentation and patch-based sampling of "
        "medical images in deep learning",
        "Computer Methods and Programs in Biomedicine",
        2021,
        "208:106236",
        "10.1016/j.cmpb.2021.106236",
    ),
    "sobol": Reference(
        "Owen, Art B.",
        "Scrambling Sobol' and Niederreiter-Xing points",
        "Journal of Complexity",
        1998,
        "14:466-489",
        "10.1006/jcom.1998.0487",
    ),
    "etiv": Reference(
        "Buckner, Randy L. and Head, Denise and Parker, Jamie and Fotenos, Anthony F. and Marcus, Daniel and "
        "Morris, John C. and Snyder, Abraham Z.",
        "A unified approach for morphometric and functional data analysis in young, old, and demented adults using "
        "automated atlas-based head size normalization: reliability and validation against manual measurement of "
        "total intracranial volume",
        "NeuroImage",
        2004,
        "23:724-738",
        "10.1016/j.neuroimage.2004.06.018",
    ),
}
